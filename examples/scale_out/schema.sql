-- The example's own tables, beside procrastinate's.

-- What was asked for, so that an id that nobody was given is not found.
CREATE TABLE speeches (
    job_id uuid PRIMARY KEY,
    asked_at timestamptz NOT NULL DEFAULT now()
);

-- What became of it. The key is what makes a handler's second call for one outcome store nothing.
CREATE TABLE outcomes (
    key text PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES speeches,
    state text NOT NULL,
    url text,
    seconds double precision,
    stored_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ON outcomes (job_id);
