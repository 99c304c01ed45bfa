package main

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"
)

// kafka.Reader hands out what it had fetched before it joined again, and commits that as a member of the
// new generation. kafka.ConsumerGroup binds a commit to the generation in which the partition was given,
// and joins again only when all that was started for that generation has ended.
func kafkaGoMember(ctx context.Context, bootstrap, topic, group string) {
	dialer := &kafka.Dialer{ClientID: "kafka-go", Timeout: 10 * time.Second}
	member, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: []string{bootstrap}, Topics: []string{topic}, Dialer: dialer,
		StartOffset: kafka.FirstOffset, SessionTimeout: session, HeartbeatInterval: heartbeat,
		RebalanceTimeout: 10 * time.Second, JoinGroupBackoff: 300 * time.Millisecond,
	})
	if err != nil {
		fail("kafka-go: %v", err)
	}
	for ctx.Err() == nil {
		generation, err := member.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
			}
			continue
		}
		for _, assigned := range generation.Assignments[topic] {
			generation.Start(func(ctx context.Context) {
				kafkaGoPartition(ctx, generation, dialer, bootstrap, topic, assigned)
			})
		}
	}
	member.Close()
}

func kafkaGoPartition(ctx context.Context, generation *kafka.Generation, dialer *kafka.Dialer,
	bootstrap, topic string, assigned kafka.PartitionAssignment) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, Partition: assigned.ID, Dialer: dialer,
		MaxWait: 200 * time.Millisecond,
	})
	defer reader.Close()
	reader.SetOffset(assigned.Offset)
	for ctx.Err() == nil {
		m, err := reader.FetchMessage(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
			}
			continue
		}
		say("got %d %d", m.Partition, m.Offset)
		kafkaGoCommit(ctx, generation, topic, m.Partition, m.Offset+1)
	}
}

// Until it is taken, or refused: nothing that was read in a generation is committed when that has ended.
func kafkaGoCommit(ctx context.Context, generation *kafka.Generation, topic string, partition int, next int64) {
	for {
		err := generation.CommitOffsets(map[string]map[int]int64{topic: {partition: next}})
		if err == nil {
			say("committed %d %d", partition, next)
			return
		}
		if ctx.Err() != nil || errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId) {
			say("refused %d %d", partition, next)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
