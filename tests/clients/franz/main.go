// Produce with franz-go (idempotent by default) and consume by direct partitions, checking both.
//
// Usage: franz BOOTSTRAP TOPIC PARTITIONS RECORDS CODEC
// Makes TOPIC, sends record i to partition i % PARTITIONS, checks that the offsets answered go up
// by one in each partition, then reads all back and compares key, value, header, timestamp and
// offset. Prints "produced N" and "consumed N"; anything unexpected ends it with exit 1.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const timeBaseMs = 1_700_000_000_000

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

type job struct {
	bootstrap, topic    string
	partitions, records int
	codec               kgo.CompressionCodec
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

func parse(arguments []string) job {
	if len(arguments) != 5 {
		fail("usage: franz BOOTSTRAP TOPIC PARTITIONS RECORDS CODEC")
	}
	partitions, err1 := strconv.Atoi(arguments[2])
	records, err2 := strconv.Atoi(arguments[3])
	codec, known := codecs[arguments[4]]
	if err1 != nil || err2 != nil || partitions < 1 || !known {
		fail("bad arguments: %v", arguments)
	}
	return job{arguments[0], arguments[1], partitions, records, codec}
}

// The record that has offset `offset` in its partition, as it is sent and expected back.
func (j job) record(partition int32, offset int64) *kgo.Record {
	i := offset*int64(j.partitions) + int64(partition)
	return &kgo.Record{
		Topic:     j.topic,
		Partition: partition,
		Key:       []byte(fmt.Sprintf("key-%d", i)),
		Value:     bytes.Repeat([]byte(fmt.Sprintf("value-%d ", i)), int(1+i%17)),
		Headers:   []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.FormatInt(i, 10))}},
		Timestamp: time.UnixMilli(timeBaseMs + i),
	}
}

func (j job) createTopic(ctx context.Context, client *kgo.Client) {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic = j.topic
	topic.NumPartitions = int32(j.partitions)
	topic.ReplicationFactor = 1
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 10_000
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		fail("CreateTopics: %v", err)
	}
	if err := kerr.ErrorForCode(response.Topics[0].ErrorCode); err != nil {
		fail("CreateTopics %s: %v", j.topic, err)
	}
}

func (j job) produce(ctx context.Context) {
	client, err := kgo.NewClient(kgo.SeedBrokers(j.bootstrap), kgo.ProducerBatchCompression(j.codec),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		fail("producer: %v", err)
	}
	defer client.Close()
	j.createTopic(ctx, client)

	// Promises of one partition run in order, one at a time over all.
	next := make([]int64, j.partitions)
	for i := 0; i < j.records; i++ {
		record := j.record(int32(i%j.partitions), int64(i/j.partitions))
		client.Produce(ctx, record, func(answer *kgo.Record, err error) {
			if err != nil {
				fail("produce: %v", err)
			}
			if answer.Offset != next[answer.Partition] {
				fail("partition %d: offset %d answered, expected %d",
					answer.Partition, answer.Offset, next[answer.Partition])
			}
			next[answer.Partition]++
		})
	}
	if err := client.Flush(ctx); err != nil {
		fail("flush: %v", err)
	}
	total := int64(0)
	for _, count := range next {
		total += count
	}
	if total != int64(j.records) {
		fail("%d of %d records answered", total, j.records)
	}
	fmt.Println("produced", total)
}

func (j job) check(record *kgo.Record, expectedOffset int64) {
	if record.Offset != expectedOffset {
		fail("partition %d: offset %d, expected %d", record.Partition, record.Offset, expectedOffset)
	}
	want := j.record(record.Partition, record.Offset)
	if !bytes.Equal(record.Key, want.Key) || !bytes.Equal(record.Value, want.Value) ||
		!record.Timestamp.Equal(want.Timestamp) || len(record.Headers) != 1 ||
		record.Headers[0].Key != "n" || !bytes.Equal(record.Headers[0].Value, want.Headers[0].Value) {
		fail("partition %d offset %d: got %v, expected %v",
			record.Partition, record.Offset, record, want)
	}
}

func (j job) consume(ctx context.Context) {
	offsets := map[int32]kgo.Offset{}
	for p := 0; p < j.partitions; p++ {
		offsets[int32(p)] = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(j.bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{j.topic: offsets}))
	if err != nil {
		fail("consumer: %v", err)
	}
	defer client.Close()
	next := make([]int64, j.partitions)
	for total := 0; total < j.records; {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			fail("fetch: %v", errs)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			j.check(record, next[record.Partition])
			next[record.Partition]++
			total++
		})
	}
	fmt.Println("consumed", j.records)
}

func main() {
	j := parse(os.Args[1:])
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	j.produce(ctx)
	j.consume(ctx)
}
