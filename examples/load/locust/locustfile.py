"""For a Locust master whose workers are genesys-load: `genesys-load worker --locust MASTER:5557`.

It names the users' classes; what they do is the workers' own. Name those that are wanted:

    pip install locust==2.47.0
    locust -f locustfile.py Script --master --expect-workers 4 --enable-rebalancing --stop-timeout 30
"""

from locust import User, events


def by_the_workers(user):
    """Not here: Locust wants a class to have a task."""


class Script(User):
    """An agent that asks for a script by its id, again and again."""

    tasks = [by_the_workers]


class Published(User):
    """The published version of it."""

    tasks = [by_the_workers]


class FirstScreen(User):
    """The script, then its pages."""

    tasks = [by_the_workers]


@events.init_command_line_parser.add_listener
def options(parser):
    parser.add_argument(
        "--shares",
        type=int,
        default=0,
        help="Deal the feeder's rows in so many shares: as many workers as will ever join, those that come for dead ones "
        "too [default: --expect-workers]",
    )
