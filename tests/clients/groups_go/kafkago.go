package main

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
)

func kafkaGoMember(ctx context.Context, bootstrap, topic, group string) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, GroupID: group, StartOffset: kafka.FirstOffset,
		SessionTimeout: session, HeartbeatInterval: heartbeat, RebalanceTimeout: 10 * time.Second,
		JoinGroupBackoff: 300 * time.Millisecond, MaxWait: 200 * time.Millisecond,
	})
	for ctx.Err() == nil {
		m, err := reader.FetchMessage(ctx)
		if err != nil {
			if ctx.Err() == nil {
				time.Sleep(100 * time.Millisecond)
			}
			continue
		}
		say("got %d %d", m.Partition, m.Offset)
		if reader.CommitMessages(ctx, m) == nil {
			say("committed %d %d", m.Partition, m.Offset+1)
		}
	}
	reader.Close()
}
