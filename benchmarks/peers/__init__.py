"""The gateways that Tok0n is compared with, a file each, so that a reader can repeat the comparison or dispute it."""

from peers.interface import Peer
from peers.litellm import LITELLM
from peers.portkey import PORTKEY
from peers.tensorzero import TENSORZERO, TENSORZERO_BUDGET

PEERS: list[Peer] = [TENSORZERO, TENSORZERO_BUDGET, PORTKEY, LITELLM]
