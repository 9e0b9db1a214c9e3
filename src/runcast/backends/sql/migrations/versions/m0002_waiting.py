"""Runs that wait, ask and start others: when they are due, what they remember, and what they ask people."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_RUN_INDEXES = (
    ("ix_runs_due", ["due_at"], "due_at IS NOT NULL"),
    ("ix_runs_parent", ["parent_id", "created_at"], "parent_id IS NOT NULL"),
    ("ix_runs_limit", ["concurrency_key", "status"], "concurrency_key IS NOT NULL"),
)


def upgrade() -> None:
    """What is there stays: each new column is empty or zero."""
    _widen_runs()
    # Every attempt but the first followed a loss: nothing else could make one.
    op.execute("UPDATE runs SET losses = attempt - 1 WHERE attempt > 1")
    # From here on a run that is to be tried again is nobody's.
    op.execute("UPDATE runs SET worker_id = NULL WHERE status = 'retrying'")
    op.add_column("steps", sa.Column("parent_id", sa.Text()))
    op.add_column("steps", sa.Column("undo", sa.Text()))
    op.create_table(
        "memos",
        sa.Column("run_id", sa.Text(), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    _create_requests()


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("run_id", sa.Text(), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.Column("preview", sa.Text()),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("answer", sa.Text()),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("answered_by", sa.Text()),
        sa.Column("resolution", sa.Text()),
    )


def _widen_runs() -> None:
    for column in (
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("parent_id", sa.Text()),
        sa.Column("losses", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("concurrency_key", sa.Text()),
        sa.Column("concurrency_limit", sa.Integer()),
    ):
        op.add_column("runs", column)
    for name, columns, condition in _RUN_INDEXES:
        op.create_index(name, "runs", columns, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))
