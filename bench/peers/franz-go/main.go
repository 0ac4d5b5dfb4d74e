// franz-go: a loop around PollFetches. The group commits by itself, what was polled at one poll only at a later one.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Strings stay where they are in the JSON, which nobody changes; of equal fields the first counts, so that decoding may
// end there.
var (
	noCopy    = json.DecodeNoCopyString()
	firstWins = json.DecodeFieldPriorityFirstWin()
)

type options struct {
	bootstrap, topic, group, mode, report string
	count, warmup                         int
}

func main() {
	var o options
	flag.StringVar(&o.bootstrap, "bootstrap", "", "HOST:PORT")
	flag.StringVar(&o.topic, "topic", "", "what to read, from its beginning")
	flag.StringVar(&o.group, "group", "", "a new consumer group")
	flag.IntVar(&o.count, "count", 0, "how many records to read")
	flag.IntVar(&o.warmup, "warmup", 0, "how many of them are not counted")
	flag.StringVar(&o.mode, "mode", "", "drop or batch")
	flag.StringVar(&o.report, "report", "", "where the reports go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	settings := []kgo.Opt{
		kgo.SeedBrokers(o.bootstrap),
		kgo.ConsumeTopics(o.topic),
		kgo.ConsumerGroup(o.group),
		kgo.FetchMaxPartitionBytes(4 << 20), // 1 MiB by default
	}
	var do func(*kgo.Record) error
	work := newFunctions()
	switch o.mode {
	case "drop":
		settings = append(settings, kgo.DisableAutoCommit())
		do = func(*kgo.Record) error { return nil }
	case "batch":
		do = work.call
	default:
		return fmt.Errorf("no mode %q", o.mode)
	}
	report, err := os.OpenFile(o.report, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer report.Close()
	client, err := kgo.NewClient(settings...)
	if err != nil {
		return err
	}
	defer client.Close()

	tell := json.NewEncoder(report).Encode
	records, warm := 0, false
	for records < o.count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for all := fetches.RecordIter(); !all.Done(); {
			if err := do(all.Next()); err != nil {
				return err
			}
		}
		records += fetches.NumRecords()
		if !warm && records >= o.warmup {
			warm = true
			if err := tell(progress{"warm", records, nil}); err != nil {
				return err
			}
		}
	}
	return tell(progress{"done", records, &work.hot})
}

type progress struct {
	Event   string `json:"event"`
	Records int    `json:"records"`
	Hot     *int   `json:"hot,omitempty"`
}

type envelope struct {
	Kinesis struct {
		SchemaVersion  string `json:"kinesisSchemaVersion"`
		PartitionKey   string `json:"partitionKey"`
		SequenceNumber string `json:"sequenceNumber"`
		Data           []byte `json:"data"` // decoded from base64
	} `json:"kinesis"`
	EventID string `json:"eventID"`
}

type sensorReading struct {
	SensorID    string  `json:"sensorId"`
	Timestamp   string  `json:"timestamp"`
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
}

type userCreated struct {
	UserID string `json:"userId"`
}

// functions are the functions by event type, each with the decoding of its event, and what they count.
type functions struct {
	byType map[string]func(data []byte) error
	hot    int
}

func newFunctions() *functions {
	f := &functions{byType: map[string]func([]byte) error{}}
	register(f, "sensor.reading", f.onReading)
	register(f, "user.created", f.onUser)
	return f
}

func register[T any](f *functions, name string, function func(T)) {
	f.byType[name] = func(data []byte) error {
		var event T
		if err := json.UnmarshalOf(data, &event, noCopy); err != nil {
			return err
		}
		function(event)
		return nil
	}
}

func (f *functions) onReading(reading sensorReading) {
	if reading.Temperature > 30 {
		f.hot++
	}
}

func (f *functions) onUser(userCreated) {}

// call does the work for one record.
func (f *functions) call(record *kgo.Record) error {
	var wrapped envelope
	if err := json.UnmarshalOf(record.Value, &wrapped, noCopy); err != nil {
		return err
	}
	var event struct {
		Type string `json:"type"`
	}
	if err := json.UnmarshalOf(wrapped.Kinesis.Data, &event, firstWins, noCopy); err != nil {
		return err
	}
	function, ok := f.byType[event.Type]
	if !ok {
		return fmt.Errorf("no function for %q", event.Type)
	}
	return function(wrapped.Kinesis.Data)
}
