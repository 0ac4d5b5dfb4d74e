import com.fasterxml.jackson.annotation.JsonSubTypes;
import com.fasterxml.jackson.annotation.JsonTypeInfo;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import io.confluent.parallelconsumer.reactor.ReactorProcessor;
import java.io.FileWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Records in order per key: on 16 threads, one or up to 100 a call; or 1,000 at once with Reactor. */
public final class Main {
    private static final Duration WAIT = Duration.ofMillis(5);

    public static void main(String[] arguments) throws IOException {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            options.put(arguments[i].substring(2), arguments[i + 1]);
        }
        List<String> topics = List.of(options.get("topic"));
        var functions = new Functions();
        var order = new Order();
        var progress = new Progress(options, functions, order);
        var settings = ParallelConsumerOptions.<String, byte[]>builder()
                .consumer(consumer(options))
                .ordering(ProcessingOrder.KEY);
        switch (options.get("mode")) {
            case "record" -> {
                var processor = ParallelStreamProcessor.createEosStreamProcessor(settings.maxConcurrency(16).build());
                processor.subscribe(topics);
                processor.poll(context -> {
                    functions.call(context.getSingleConsumerRecord().value());
                    progress.add(1);
                });
            }
            case "batch" -> {
                var processor = ParallelStreamProcessor.createEosStreamProcessor(
                        settings.maxConcurrency(16).batchSize(100).build());
                processor.subscribe(topics);
                processor.poll(context -> {
                    context.forEach(record -> functions.call(record.value()));
                    progress.add(context.size());
                });
            }
            case "waiting" -> {
                var processor = new ReactorProcessor<>(
                        settings.maxConcurrency(1_000).build(), Schedulers::parallel);
                processor.subscribe(topics);
                processor.react(context -> {
                    ConsumerRecord<String, byte[]> record = context.getSingleConsumerRecord();
                    order.begin(record);
                    functions.call(record.value());
                    return Mono.delay(WAIT).doOnNext(waited -> {
                        order.end(record);
                        progress.add(1);
                    });
                });
            }
            default -> throw new IllegalArgumentException("no mode " + options.get("mode"));
        }
    }

    private static KafkaConsumer<String, byte[]> consumer(Map<String, String> options) {
        return new KafkaConsumer<>(Map.of(
                ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("bootstrap"),
                ConsumerConfig.GROUP_ID_CONFIG, options.get("group"),
                ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false,
                ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 << 20,
                ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 5_000,
                ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, StringDeserializer.class,
                ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class));
    }

    /** The work for one record. */
    private static final class Functions {
        private static final ObjectMapper MAPPER = new ObjectMapper();
        private static final ObjectReader ENVELOPES = MAPPER.readerFor(Envelope.class);
        private static final ObjectReader EVENTS = MAPPER.readerFor(Event.class);

        private final Map<Class<?>, Consumer<Event>> functions = new HashMap<>();
        private final LongAdder hot = new LongAdder();

        Functions() {
            functions.put(SensorReading.class, event -> onReading((SensorReading) event));
            functions.put(UserCreated.class, event -> onUser((UserCreated) event));
        }

        void call(byte[] value) {
            Event event;
            try {
                Envelope envelope = ENVELOPES.readValue(value);
                event = EVENTS.readValue(Base64.getDecoder().decode(envelope.kinesis.data));
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            functions.get(event.getClass()).accept(event);
        }

        private void onReading(SensorReading reading) {
            if (reading.temperature > 30) {
                hot.increment();
            }
        }

        private void onUser(UserCreated user) {
            // nothing to count
        }
    }

    /** Counts calls that began while an earlier one of their key ran, or out of order. */
    private static final class Order {
        private final Map<String, Lane> lanes = new ConcurrentHashMap<>();
        private final LongAdder overlaps = new LongAdder();

        void begin(ConsumerRecord<String, byte[]> record) {
            Lane lane = lanes.computeIfAbsent(record.key(), key -> new Lane());
            synchronized (lane) {
                if (lane.running > 0 || record.offset() <= lane.lastOffset) {
                    overlaps.increment();
                }
                lane.running++;
                lane.lastOffset = record.offset();
            }
        }

        void end(ConsumerRecord<String, byte[]> record) {
            Lane lane = lanes.get(record.key());
            synchronized (lane) {
                lane.running--;
            }
        }

        private static final class Lane {
            private int running;
            private long lastOffset = -1;
        }
    }

    /** Reports the end of the warm-up and of the run. */
    private static final class Progress {
        private final AtomicLong records = new AtomicLong();
        private final FileWriter report;
        private final long count;
        private final long warmup;
        private final Functions functions;
        private final Order order;

        Progress(Map<String, String> options, Functions functions, Order order) throws IOException {
            this.functions = functions;
            this.order = order;
            count = Long.parseLong(options.get("count"));
            warmup = Long.parseLong(options.get("warmup"));
            report = new FileWriter(options.get("report"));
        }

        void add(long more) {
            long now = records.addAndGet(more);
            if (now >= warmup && now - more < warmup) {
                say(String.format("{\"event\": \"warm\", \"records\": %d}", now));
            }
            if (now >= count && now - more < count) {
                say(String.format("{\"event\": \"done\", \"records\": %d, \"hot\": %d, \"overlaps\": %d}",
                        now, functions.hot.sum(), order.overlaps.sum()));
            }
        }

        private synchronized void say(String line) {
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
