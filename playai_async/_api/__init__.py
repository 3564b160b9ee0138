"""One request to PlayAI: from a URL to a job, or to the error that explains why there is no job.

- `urls` accepts the base URL and the URLs of audio files. Only https is allowed, except for loopback hosts.
- `credentials` checks the API key and the user id, builds the headers and redacts both secrets from text.
- `jobs` makes a request, for one base URL and one key: `JobsApi.status` and `JobsApi.create`. It calls the next two.
- `transport` performs one HTTP exchange with aiohttp and returns a `Reply`: status, some headers and body.
  `failures` is the one table of what aiohttp, proxies, TLS and the operating system raise. `tracing` lets no trace
  callback of a client session disturb an exchange.
- `contract` turns a `Reply` into a job or an error. `_converter`, outside this folder, maps JSON to the models.

Every call ends in one of two ways: it returns a `TtsJob`, or it raises one `PlayAIError`. The status of a reply decides
first. A 2xx must contain a job that follows the contract; otherwise the error is `InvalidResponseError`. Any other
status is an `APIStatusError`, even if the body is incomplete or unreadable. No status, or a 2xx whose body breaks off,
is a `TransportError`, whose `maybe_received` tells whether the service may have processed the request.

A request that creates a job has a separate connection. If what came of a reply names a job, but is not a valid job,
the error has the id.

Nothing that comes from the network is trusted:

- The body is read up to a limit that counts decompressed bytes. Its depth and its number of values are limited too.
- Types are checked and never coerced. Unknown fields are ignored. An unknown status becomes `Unknown`.
- Redirects are not followed, because a redirect would send the user id to another host.
- Text from the service is redacted, shortened and reduced to one line before an error or a log record contains it.
- Exceptions of aiohttp may contain headers, URLs or parts of a reply. They are sanitized before they become a cause.

Each request is sent exactly once. This folder knows nothing of retries, rate limits, queues, deadlines of a wait, or
other requests: `playai_async.jobs` decides about those, and `_runtime.classify` says what an error means to it.
"""
