import com.fasterxml.jackson.annotation.JsonSubTypes;
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.FileWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Instant;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.Record;

/** A stream of envelopes, mapped to events, into a processor that calls the function for each. */
public final class Main {
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final ObjectReader ENVELOPES = MAPPER.readerFor(Envelope.class);
    private static final ObjectReader EVENTS = MAPPER.readerFor(Event.class);

    public static void main(String[] arguments) throws IOException {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            options.put(arguments[i].substring(2), arguments[i + 1]);
        }
        var functions = new Functions(options);
        var builder = new StreamsBuilder();
        builder.stream(options.get("topic"), Consumed.with(Serdes.ByteArray(), envelopes()))
                .mapValues(Main::event)
                .process(() -> new Processor<byte[], Event, Void, Void>() {
                    @Override
                    public void process(Record<byte[], Event> record) {
                        functions.call(record);
                    }
                });
        new KafkaStreams(builder.build(), settings(options)).start();
    }

    private static Properties settings(Map<String, String> options) {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, options.get("group"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("bootstrap"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        return settings;
    }

    private static Serde<Envelope> envelopes() {
        return Serdes.serdeFrom((topic, envelope) -> write(envelope), (topic, value) -> read(ENVELOPES, value));
    }

    private static Event event(Envelope envelope) {
        return read(EVENTS, Base64.getDecoder().decode(envelope.kinesis.data));
    }

    private static byte[] write(Object value) {
        try {
            return MAPPER.writeValueAsBytes(value);
        } catch (IOException error) {
            throw new SerializationException(error);
        }
    }

    private static <T> T read(ObjectReader reader, byte[] json) {
        try {
            return reader.readValue(json);
        } catch (IOException error) {
            throw new SerializationException(error);
        }
    }

    /** The functions by type, and what they count. Only the one stream thread calls it. */
    private static final class Functions {
        private final Map<Class<?>, Consumer<Event>> functions = new HashMap<>();
        private final Map<Long, Long> latenciesBy100Us = new TreeMap<>();
        private final FileWriter report;
        private final long count;
        private final long warmup;
        private final boolean timed;
        private long records;
        private long hot;

        Functions(Map<String, String> options) throws IOException {
            timed = switch (options.get("mode")) {
                case "record" -> false;
                case "latency" -> true;
                default -> throw new IllegalArgumentException("no mode " + options.get("mode"));
            };
            count = Long.parseLong(options.get("count"));
            warmup = Long.parseLong(options.get("warmup"));
            report = new FileWriter(options.get("report"));
            functions.put(SensorReading.class, event -> onReading((SensorReading) event));
            functions.put(UserCreated.class, event -> onUser((UserCreated) event));
        }

        void call(Record<byte[], Event> record) {
            if (timed && records >= warmup) {
                Instant now = Instant.now();
                long sinceUs = (now.getEpochSecond() * 1_000 - record.timestamp()) * 1_000 + now.getNano() / 1_000;
                latenciesBy100Us.merge(Math.round(sinceUs / 100.0), 1L, Long::sum);
            }
            functions.get(record.value().getClass()).accept(record.value());
            records++;
            if (records == warmup) {
                say("{\"event\": \"warm\", \"records\": " + records + "}");
            }
            if (records == count) {
                String latencies = timed ? ", \"latency_ms\": " + latencies() : "";
                say("{\"event\": \"done\", \"records\": " + records + ", \"hot\": " + hot + latencies + "}");
            }
        }

        private void onReading(SensorReading reading) {
            if (reading.temperature > 30) {
                hot++;
            }
        }

        private void onUser(UserCreated user) {
            // nothing to count
        }

        private String latencies() {
            return latenciesBy100Us.entrySet().stream()
                    .map(entry -> "\"" + entry.getKey() / 10.0 + "\": " + entry.getValue())
                    .collect(Collectors.joining(", ", "{", "}"));
        }

        private void say(String line) {
            try {
                report.write(line + "\n");
                report.flush();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    public static final class Envelope {
        public Kinesis kinesis;
        public String eventID;
    }

    public static final class Kinesis {
        public String kinesisSchemaVersion;
        public String partitionKey;
        public String sequenceNumber;
        public String data;
    }

    @JsonTypeInfo(use = JsonTypeInfo.Id.NAME, property = "type")
    @JsonSubTypes({
        @JsonSubTypes.Type(value = SensorReading.class, name = "sensor.reading"),
        @JsonSubTypes.Type(value = UserCreated.class, name = "user.created"),
    })
    public interface Event {}

    public static final class SensorReading implements Event {
        public String sensorId;
        public String timestamp;
        public double temperature;
        public double humidity;
    }

    public static final class UserCreated implements Event {
        public String userId;
    }
}
