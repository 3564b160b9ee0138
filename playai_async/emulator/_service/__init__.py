"""The emulated service without a network: a request and the time go in, a response comes out.

`JobsApi` answers the two endpoints of the API. It checks a request in a fixed order: endpoint, method, credentials,
rate limit, then the id or the body. It reads and creates jobs, which are values: the state of a job follows from
when it began and how long it takes, so nothing runs in the background.

`AudioOrigin` answers as an object store does. It serves the audio of completed jobs under signed links that expire,
without credentials and without a rate limit. The bytes of the audio follow from the job's input.

The modules here know neither HTTP libraries nor faults, and they never read the loop's clock: the caller passes the
loop time in. The wall clock only dates jobs and links. Faults, the log of requests and the sockets are in the modules
beside this folder, which import from here, never the other way round.
"""
