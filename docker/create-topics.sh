#!/bin/sh
# Creates every topic of the service; topics that exist stay as they are.
set -eu

: "${CLV_BROKER:?set it to the address of the broker, host:port}"
: "${CLV_PARTITIONS:?set it to the partition count of the co-partitioned topics}"
: "${CLV_REPLICATION:=1}"
: "${KAFKA_BIN:=/opt/kafka/bin}"

# usage: topic NAME PARTITIONS KEY=VALUE...
topic() {
    name=$1 partitions=$2
    shift 2
    for setting in "$@"; do
        set -- "$@" --config "$setting"
        shift
    done
    "$KAFKA_BIN/kafka-topics.sh" --bootstrap-server "$CLV_BROKER" --create --if-not-exists \
        --topic "$name" --partitions "$partitions" --replication-factor "$CLV_REPLICATION" "$@"
}

keep="cleanup.policy=delete retention.ms=-1"
# The newest segment is never compacted: small segments bound what a recovery reads.
# What is erased is compacted away a day later.
latest="cleanup.policy=compact segment.bytes=67108864 delete.retention.ms=86400000 max.compaction.lag.ms=86400000"
# Thirty days from the writing: an event's own time may be years back in a replay.
month="cleanup.policy=delete retention.ms=2592000000 segment.ms=86400000 message.timestamp.type=LogAppendTime"
hour="cleanup.policy=delete retention.ms=3600000 message.timestamp.type=LogAppendTime"

# A record that was refused has its reason in more headers; a customer's record may be large.
large="max.message.bytes=4194304"

# shellcheck disable=SC2086 # each policy is several words
{
    topic shop.orders "$CLV_PARTITIONS" $keep
    topic shop.support "$CLV_PARTITIONS" $keep
    topic shop.customers "$CLV_PARTITIONS" $keep
    topic shop.identities "$CLV_PARTITIONS" $keep
    topic clv.backfill "$CLV_PARTITIONS" $keep
    topic clv.clock "$CLV_PARTITIONS" $hour
    topic clv.identity "$CLV_PARTITIONS" $month $large
    topic clv.rerouted "$CLV_PARTITIONS" $month
    topic clv-customers-changelog "$CLV_PARTITIONS" $latest $large
    topic clv.updates "$CLV_PARTITIONS" $latest
    topic clv.segment-changes "$CLV_PARTITIONS" $month
    topic clv.dead-letters "$CLV_PARTITIONS" $month $large
    topic clv.models 1 $latest
}
