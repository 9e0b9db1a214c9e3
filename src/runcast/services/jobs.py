"""Which job brings a run to a worker."""

from runcast.records import Job, Run


def job_of(run: Run) -> Job:
    """The job of a run as it stands: always the same one, until something happens in the run, or it is due otherwise.

    The first job has the run's own id. Later ones have ids of their own: the job of a dead worker stays locked in the
    queue, or put off, for some time, and adding it again would change nothing. Whichever comes first takes the run.
    """
    if run.attempt == 0 and run.limit is None and run.due_at is None:
        job_id = run.id
    else:
        job_id = f"{run.id}-{run.attempt}-{run.last.seq}"
    if run.due_at is not None:
        # The job of the time before lies in the queue still, put off until then.
        job_id += f"-{round(run.due_at.timestamp() * 1000)}"
    return Job(id=job_id, name=run.runner, data={"runId": run.id})
