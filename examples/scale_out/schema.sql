-- The tables of the example, in addition to those of procrastinate.

-- All jobs that were created, so that an unknown id is a 404.
CREATE TABLE speeches (
    job_id uuid PRIMARY KEY,
    asked_at timestamptz NOT NULL DEFAULT now()
);

-- The results. The key makes sure that a second call of the handler for one outcome stores nothing.
CREATE TABLE outcomes (
    key text PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES speeches,
    state text NOT NULL,
    url text,
    seconds double precision,
    stored_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON outcomes (job_id);
