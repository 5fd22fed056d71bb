-- check(), preview() and send_test(): the shape of their results, and their results without any
-- problem. Problems of the server are tested by test/t/083_check.pl.

\pset format unaligned
\pset tuples_only on

CREATE EXTENSION job_alerting;
CREATE TABLE jobs (
    id int PRIMARY KEY, status text, finished_at timestamptz, attempts int, max_attempts int, last_error text
);

CREATE VIEW findings AS
    SELECT item, state, detail, hint FROM job_alerting.check()
    WHERE item NOT IN ('preload', 'launcher', 'worker slot') AND item NOT LIKE 'key of %';
SELECT count(*) FROM job_alerting.check() WHERE item IN ('preload', 'launcher', 'worker slot');

SELECT * FROM findings;
SELECT job_alerting.watch('jobs');
SELECT item, state, hint FROM findings;

-- In any transaction, any number of times.
BEGIN READ ONLY;
SELECT count(*) FROM job_alerting.preview();
SELECT count(*) FROM findings;
COMMIT;

INSERT INTO jobs VALUES (1, 'dead', '2026-01-01 03:00:00+00', 3, 3, 'timeout');
SELECT subject, body_text LIKE '%job 1 in jobs%', body_html LIKE '%job 1 in jobs%' FROM job_alerting.preview();
SELECT count(*) FROM job_alerting.failure;
SELECT * FROM job_alerting.send_test();

DROP VIEW findings;
DROP EXTENSION job_alerting;
DROP TABLE jobs;
