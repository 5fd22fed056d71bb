-- What a janitor does, here for research_jobs: a job that has been running for longer than any job
-- takes has lost its worker. It is dead, and nobody is there who could say why. For psql:
--
--   psql -v lost_after='15 minutes' -f janitor.sql

UPDATE research_jobs
SET status = 'dead', finished_at = now(), last_error = NULL
WHERE status = 'running' AND claimed_at < now() - interval :'lost_after';
