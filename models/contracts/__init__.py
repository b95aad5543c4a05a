"""Input contracts: the events that publishers may send, and the reasons for refusals."""

from models.contracts.decode import (
    MAX_HEADERS,
    MAX_VALUE_BYTES,
    NOTICES,
    Reason,
    Refused,
    customer_of,
    decode,
    key_as_customer,
)
from models.contracts.intake import check_topic
from models.currencies import CURRENCIES
from models.events.acquisitions import CustomerAcquired
from models.events.envelope import ENVELOPES, EVENT, Envelope, json_schemas
from models.events.fields import (
    CurrencyCode,
    EventData,
    Id,
    MoneyText,
    Number,
    Score,
    Time,
    money_units,
)
from models.events.identities import CustomerErased, CustomerMerged
from models.events.kinds import EVENT_TYPES, TOPIC_OF_TYPE, TYPES_OF_TOPIC
from models.events.orders import OrderCancelled, OrderItem, OrderPlaced
from models.events.refunds import OrderRefunded
from models.events.scales import Scale
from models.events.surveys import SurveyAnswered
from models.events.tickets import TicketOpened, TicketRated, TicketResolved

__all__ = [
    "CURRENCIES",
    "ENVELOPES",
    "EVENT",
    "EVENT_TYPES",
    "MAX_HEADERS",
    "MAX_VALUE_BYTES",
    "NOTICES",
    "TOPIC_OF_TYPE",
    "TYPES_OF_TOPIC",
    "CurrencyCode",
    "CustomerAcquired",
    "CustomerErased",
    "CustomerMerged",
    "Envelope",
    "EventData",
    "Id",
    "MoneyText",
    "Number",
    "OrderCancelled",
    "OrderItem",
    "OrderPlaced",
    "OrderRefunded",
    "Reason",
    "Refused",
    "Scale",
    "Score",
    "SurveyAnswered",
    "TicketOpened",
    "TicketRated",
    "TicketResolved",
    "Time",
    "check_topic",
    "customer_of",
    "decode",
    "json_schemas",
    "key_as_customer",
    "money_units",
]
