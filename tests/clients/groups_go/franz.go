package main

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
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

func sayOfEach(next map[int32]kgo.EpochOffset, err error) {
	what := "committed"
	if errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID) {
		what = "refused"
	} else if err != nil {
		return
	}
	for partition, at := range next {
		say("%s %d %d", what, partition, at.Offset)
	}
}

func franzMember(ctx context.Context, bootstrap, topic, group string) {
	client := franzClient(bootstrap, topic, group)
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 50)
		fetches.EachRecord(func(r *kgo.Record) { say("got %d %d", r.Partition, r.Offset) })
		next := client.UncommittedOffsets()[topic] // of what is still ours
		if len(next) > 0 {
			sayOfEach(next, client.CommitUncommittedOffsets(context.Background()))
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
}
