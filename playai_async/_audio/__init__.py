"""From text to an audio file: create a job, download its audio, or both with the wait between them.

- `create` sends the POST request that creates a job. Creation has a separate rate limit, so it has its own pacer and
  dispatcher. A job costs money, so the request is retried only if it is certain that the service did not accept it:
  after a 429 or 425, or if no connection was made. Any other failure is raised, and the error says that the job may
  exist.
- `download` fetches the audio of a completed job from its signed URL. `transfer` decides what each response means, and
  `connections` opens the client session for these requests.
- `files` writes the audio, and `disk` runs everything that touches the disk in threads.
- `speech` combines them: `create`, `download`, and `speak`, which creates a job, waits for it and downloads its audio
  within one deadline.
- `cancel_scopes` interrupts the creations and downloads that are running when the session is closed.

A download goes from the signed URL into a part file beside the destination:

1. `Destination.checked` rejects a destination that cannot be written, before anything is sent or paid for.
2. `Downloader` follows up to `MAX_REDIRECTS` redirects. The audio is on another host, which must learn neither the API
   key nor the user id, so downloads use a client session that has no credentials, cookies or headers of the caller.
3. The data is appended to the part file. The size must match the `fileSize` of the job. The download is complete as
   soon as that many bytes have come, however the response ends.
4. If an attempt fails, the next attempt resumes with a range request (RFC 9110, section 14), if the server supports
   ranges and a strong validator shows that the audio has not changed. Otherwise the next attempt starts over.
5. If the URL has expired, the job is fetched once more, and its new URL is used.
6. The complete part file replaces the destination atomically, and keeps its mode. After a failure or a cancellation,
   the part file is removed and the destination is as it was before.

`speak` never creates a second job: after a failed wait or download, the error names the job, and the caller can wait
for it or download it again.

This folder must not know how a poll is scheduled: it asks the poller to wait.
"""
