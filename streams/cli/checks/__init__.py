"""What `clv doctor` looks at: every check is bounded in time, and says what to do."""

from streams.cli.checks.check import Check, Status
from streams.cli.checks.erasure import erasure_key
from streams.cli.checks.installation import installation
from streams.cli.checks.servers import servers
from streams.cli.checks.state import state_directory

__all__ = ["Check", "Status", "erasure_key", "installation", "servers", "state_directory"]
