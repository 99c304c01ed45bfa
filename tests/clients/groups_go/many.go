package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Each group reads all records of the topic, once, and commits them; "done" when all have. A record that
// a group gets twice, or a commit that fails, ends it with exit 1.
type manyGroup struct {
	mutex sync.Mutex
	seen  map[[2]int64]bool
	done  chan struct{}
}

func (g *manyGroup) take(name string, records []*kgo.Record, total int) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	for _, r := range records {
		at := [2]int64{int64(r.Partition), r.Offset}
		if g.seen[at] {
			fail("%s: partition %d offset %d twice", name, r.Partition, r.Offset)
		}
		g.seen[at] = true
	}
	if len(records) > 0 && len(g.seen) == total {
		close(g.done)
	}
}

func manyMember(ctx context.Context, client *kgo.Client, name string, g *manyGroup, total int) {
	for ctx.Err() == nil {
		records := client.PollRecords(ctx, 1000).Records()
		if len(records) > 0 {
			if err := client.CommitRecords(ctx, records...); err != nil && ctx.Err() == nil {
				fail("%s: commit: %v", name, err)
			}
			g.take(name, records, total)
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
}

func many(ctx context.Context, bootstrap, topic string, groups, members, records int) {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	all := make([]*manyGroup, groups)
	for i := range all {
		all[i] = &manyGroup{seen: map[[2]int64]bool{}, done: make(chan struct{})}
		name := fmt.Sprintf("many-%d", i)
		for j := 0; j < members; j++ {
			client := manyClient(bootstrap, topic, name)
			working.Add(1)
			go func(g *manyGroup) {
				defer working.Done()
				manyMember(ctx, client, name, g, records)
			}(all[i])
		}
	}
	fmt.Println("started", groups*members)
	for _, g := range all {
		select {
		case <-g.done:
		case <-ctx.Done():
			fail("ended early")
		}
	}
	fmt.Println("done")
	<-ctx.Done() // until SIGTERM: somebody looks at the groups meanwhile
	cancel()
	working.Wait()
}

// Sessions of the length that clients have: a thousand of them share two cores with the broker here.
func manyClient(bootstrap, topic, group string) *kgo.Client {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		fail("franz-go: %v", err)
	}
	return client
}
