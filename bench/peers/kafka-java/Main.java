import com.fasterxml.jackson.annotation.JsonSubTypes;
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.FileWriter;
import java.io.IOException;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A poll loop by hand: offsets are committed by the consumer itself, those of one poll at a later one. */
public final class Main {
    private static final Duration POLL = Duration.ofMillis(500);

    private final Map<String, String> options = new HashMap<>();
    private final Function function = new Function();

    public static void main(String[] arguments) throws IOException {
        new Main(arguments).run();
    }

    private Main(String[] arguments) {
        for (int i = 0; i < arguments.length; i += 2) {
            options.put(arguments[i].substring(2), arguments[i + 1]);
        }
    }

    private void run() throws IOException {
        long count = Long.parseLong(options.get("count"));
        long warmup = Long.parseLong(options.get("warmup"));
        boolean drop = switch (options.get("mode")) {
            case "drop" -> true;
            case "batch" -> false;
            default -> throw new IllegalArgumentException("no mode " + options.get("mode"));
        };
        try (var report = new FileWriter(options.get("report"));
                var consumer = new KafkaConsumer<byte[], byte[]>(settings(drop))) {
            consumer.subscribe(List.of(options.get("topic")));
            long done = 0;
            boolean warm = false;
            while (done < count) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(POLL);
                if (!drop) {
                    for (ConsumerRecord<byte[], byte[]> record : records) {
                        function.handle(record.value());
                    }
                }
                done += records.count();
                if (!warm && done >= warmup) {
                    warm = true;
                    say(report, String.format("{\"event\": \"warm\", \"records\": %d}", done));
                }
            }
            say(report, String.format("{\"event\": \"done\", \"records\": %d, \"hot\": %d}", done, function.hot));
        }
    }

    private Map<String, Object> settings(boolean drop) {
        return Map.of(
                ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("bootstrap"),
                ConsumerConfig.GROUP_ID_CONFIG, options.get("group"),
                ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, !drop,
                ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 << 20,
                ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 5_000,
                ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class,
                ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
    }

    private static void say(FileWriter report, String line) throws IOException {
        report.write(line + "\n");
        report.flush();
    }

    /** The work for one record. */
    private static final class Function {
        private static final ObjectMapper MAPPER = new ObjectMapper();
        private static final ObjectReader ENVELOPES = MAPPER.readerFor(Envelope.class);
        private static final ObjectReader EVENTS = MAPPER.readerFor(Event.class);

        private final Map<Class<?>, Consumer<Event>> functions = new HashMap<>();
        private long hot;

        Function() {
            functions.put(SensorReading.class, event -> onReading((SensorReading) event));
            functions.put(UserCreated.class, event -> onUser((UserCreated) event));
        }

        void handle(byte[] value) throws IOException {
            Envelope envelope = ENVELOPES.readValue(value);
            Event event = EVENTS.readValue(Base64.getDecoder().decode(envelope.kinesis.data));
            functions.get(event.getClass()).accept(event);
        }

        private void onReading(SensorReading reading) {
            if (reading.temperature > 30) {
                hot++;
            }
        }

        private void onUser(UserCreated user) {
            // nothing to count
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
