import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.time.temporal.JulianFields;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** An aggregate per customer in a state store, one formula, and an output topic. */
public final class CustomerValue {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final double MARGIN = 0.3;
    private static final double CONTACT = 5.0;
    private static final int HORIZON_DAYS = 365;

    /** What is kept of a customer; money in ten-thousandths. */
    record Customer(
            long orders, long revenue, long refunded, long contacts, long firstDay, long lastDay) {
        static final int BYTES = 6 * Long.BYTES;
        static final Customer NEW = new Customer(0, 0, 0, 0, Long.MAX_VALUE, Long.MIN_VALUE);

        Customer with(String key, byte[] value) {
            JsonNode event;
            try {
                event = JSON.readTree(value);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            JsonNode data = event.required("data");
            if (!key.equals(data.required("customer_id").asText())) {
                throw new IllegalArgumentException("the key is not the customer: " + key);
            }
            String type = event.required("type").asText();
            return switch (type) {
                case "order.placed" -> {
                    long day = day(data.required("placed_at"));
                    yield new Customer(
                            orders + 1, revenue + units(data.required("total")), refunded, contacts,
                            Math.min(firstDay, day), Math.max(lastDay, day));
                }
                case "order.refunded" -> new Customer(
                        orders, revenue, refunded + units(data.required("amount")), contacts,
                        firstDay, lastDay);
                case "ticket.opened" -> new Customer(
                        orders, revenue, refunded, contacts + 1, firstDay, lastDay);
                default -> throw new IllegalArgumentException("unknown type " + type);
            };
        }

        byte[] update(String id) {
            double gross = revenue / 10_000.0;
            double net = gross - refunded / 10_000.0;
            double expected = 0;
            if (orders > 0) {
                double days = Math.max(lastDay - firstDay + 1, HORIZON_DAYS);
                expected = net / orders * (orders / days) * HORIZON_DAYS * MARGIN;
            }
            ObjectNode update = JSON.createObjectNode();
            update.put("customer_id", id);
            update.put("orders", orders);
            update.put("revenue", gross);
            update.put("refunded", refunded / 10_000.0);
            update.put("contacts", contacts);
            update.put("value", Math.round((net * MARGIN - contacts * CONTACT + expected) * 100) / 100.0);
            try {
                return JSON.writeValueAsBytes(update);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        byte[] toBytes() {
            return ByteBuffer.allocate(BYTES)
                    .putLong(orders).putLong(revenue).putLong(refunded)
                    .putLong(contacts).putLong(firstDay).putLong(lastDay).array();
        }

        static Customer fromBytes(byte[] bytes) {
            ByteBuffer in = ByteBuffer.wrap(bytes);
            return new Customer(
                    in.getLong(), in.getLong(), in.getLong(), in.getLong(), in.getLong(), in.getLong());
        }
    }

    private static long day(JsonNode time) {
        return OffsetDateTime.parse(time.asText()).getLong(JulianFields.MODIFIED_JULIAN_DAY);
    }

    private static long units(JsonNode money) {
        return new BigDecimal(money.asText()).movePointRight(4).longValueExact();
    }

    private static String setting(String name) {
        return System.getenv("BENCH_" + name);
    }

    private static String milliseconds(String name) {
        return String.valueOf(Math.round(Double.parseDouble(setting(name)) * 1000));
    }

    public static void main(String[] arguments) {
        boolean inMemory = arguments[0].equals("memory");
        boolean exactlyOnce = arguments[1].equals("exactly_once_v2");
        String directory = arguments[2];

        Serde<Customer> customers = Serdes.serdeFrom(
                (topic, customer) -> customer == null ? null : customer.toBytes(),
                (topic, bytes) -> bytes == null ? null : Customer.fromBytes(bytes));
        StreamsBuilder builder = new StreamsBuilder();
        Materialized<String, Customer, KeyValueStore<Bytes, byte[]>> store = Materialized.as(
                inMemory
                        ? Stores.inMemoryKeyValueStore("customers")
                        : Stores.persistentKeyValueStore("customers"));
        builder.stream(
                        List.of(setting("TOPICS_ORDERS"), setting("TOPICS_SUPPORT")),
                        Consumed.with(Serdes.String(), Serdes.ByteArray()))
                .groupByKey()
                .aggregate(
                        () -> Customer.NEW,
                        (key, value, customer) -> customer.with(key, value),
                        store.withKeySerde(Serdes.String()).withValueSerde(customers))
                .toStream()
                .mapValues((key, customer) -> customer.update(key))
                .to(setting("TOPICS_UPDATES"), Produced.with(Serdes.String(), Serdes.ByteArray()));

        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, setting("APP_ID"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, setting("BROKER"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, directory);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, milliseconds("COMMIT_INTERVAL"));
        settings.put(
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", milliseconds("BROKER_SESSION_TIMEOUT"));
        settings.put("heartbeat.interval.ms", milliseconds("BROKER_HEARTBEAT_INTERVAL"));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }
}
