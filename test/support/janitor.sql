-- A janitor for research_jobs. A job that has been running for longer than any job takes has lost its worker:
-- it becomes dead, without an error. For psql:
--
--   psql -v lost_after='15 minutes' -f janitor.sql

UPDATE research_jobs
SET status = 'dead', finished_at = now(), last_error = NULL
WHERE status = 'running' AND claimed_at < now() - interval :'lost_after';
