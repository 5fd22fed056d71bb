-- The table of the jobs as it is in use. Its worker runs outside the database.

CREATE TABLE public.research_jobs (
    id           bigserial PRIMARY KEY,
    source       text NOT NULL,
    job_type     text NOT NULL,
    target_type  text,
    target_id    uuid,
    payload      jsonb NOT NULL DEFAULT '{}',
    result       jsonb,
    status       text NOT NULL DEFAULT 'queued'
                 CHECK (status IN ('queued', 'running', 'done', 'failed', 'dead')),
    priority     smallint NOT NULL DEFAULT 100,
    attempts     smallint NOT NULL DEFAULT 0,
    max_attempts smallint DEFAULT 3,
    run_after    timestamptz NOT NULL DEFAULT now(),
    claimed_at   timestamptz,
    claimed_by   text,
    finished_at  timestamptz,
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION public.set_updated_at() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER research_jobs_updated_at BEFORE UPDATE ON public.research_jobs
    FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();
