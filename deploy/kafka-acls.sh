#!/bin/sh
# The rights of the shop on Kafka, and no more: one principal that reads and answers, one that only answers requests.
# For a broker with an authorizer; safe to run again.
#
#   KAFKA_ACLS="kafka-acls.sh --bootstrap-server kafka:9092 --command-config admin.properties" sh deploy/kafka-acls.sh
#
# Others than these: TOPIC, GROUP, WORKER, API.
set -eu
: "${KAFKA_ACLS:=kafka-acls.sh --bootstrap-server localhost:9092}"
: "${TOPIC:=events}" "${GROUP:=streamproc}" "${WORKER:=User:shop}" "${API:=User:shop-api}"

allow() { $KAFKA_ACLS --add --force --allow-principal "$@"; }

# Everything (`streamproc run`): reads the input as a group, writes dead letters, and what the outbox holds. Another input
# topic, of an object store's notifications say, needs the same Read, and Write on its .dlq.
allow "$WORKER" --operation Read --topic "$TOPIC"
allow "$WORKER" --operation Read --group "$GROUP"
allow "$WORKER" --operation Write --topic "$TOPIC"
allow "$WORKER" --operation Write --topic "$TOPIC.dlq"

# Requests only (`streamproc run --only http`): writes what functions emit, and what the outbox holds.
allow "$API" --operation Write --topic "$TOPIC"

# The topics are made by whoever runs Kafka: none of the two may create one. A reader of dead letters needs
# `--operation Read --topic "$TOPIC.dlq"`, and a group of its own.
