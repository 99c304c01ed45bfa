package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

func franzClient(bootstrap, topic, group string) *kgo.Client {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(session),
		kgo.HeartbeatInterval(heartbeat))
	if err != nil {
		fail("franz-go: %v", err)
	}
	return client
}

func franzMember(ctx context.Context, bootstrap, topic, group string) {
	client := franzClient(bootstrap, topic, group)
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 50)
		fetches.EachRecord(func(r *kgo.Record) { say("got %d %d", r.Partition, r.Offset) })
		next := client.UncommittedOffsets()[topic] // of what is still ours
		if len(next) > 0 && client.CommitUncommittedOffsets(context.Background()) == nil {
			for partition, at := range next {
				say("committed %d %d", partition, at.Offset)
			}
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
}
