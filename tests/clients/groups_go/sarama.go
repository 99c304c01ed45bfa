package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

type saramaHandler struct {
	client       sarama.Client
	admin        sarama.ClusterAdmin
	topic, group string
}

func (saramaHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// Commit says nothing about its success, so the broker is asked, and as long as next was not taken (the broker
// was away) it is tried again. Beyond next somebody else has gone on, and it was refused.
func (h saramaHandler) commit(s sarama.ConsumerGroupSession, partition int32, next int64) {
	for {
		s.Commit()
		answer, err := h.admin.ListConsumerGroupOffsets(h.group, map[string][]int32{h.topic: {partition}})
		if err != nil {
			h.client.RefreshCoordinator(h.group)
		} else if block := answer.GetBlock(h.topic, partition); block != nil && block.Err == sarama.ErrNoError {
			if block.Offset == next {
				say("committed %d %d", partition, next)
			} else if block.Offset > next {
				say("refused %d %d", partition, next)
			}
			if block.Offset >= next {
				return
			}
		}
		if s.Context().Err() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (h saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for {
		select {
		case <-s.Context().Done():
			return nil
		case m, more := <-c.Messages():
			if !more {
				return nil
			}
			say("got %d %d", m.Partition, m.Offset)
			s.MarkMessage(m, "")
			if len(c.Messages()) == 0 {
				h.commit(s, m.Partition, m.Offset+1)
			}
		}
	}
}

func saramaMember(ctx context.Context, bootstrap, topic, group string) {
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Heartbeat.Interval = heartbeat
	config.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	client, err := sarama.NewClient([]string{bootstrap}, config)
	if err != nil {
		fail("sarama: %v", err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		fail("sarama: %v", err)
	}
	member, err := sarama.NewConsumerGroupFromClient(group, client)
	if err != nil {
		fail("sarama: %v", err)
	}
	for ctx.Err() == nil {
		handler := saramaHandler{client, admin, topic, group}
		if member.Consume(ctx, []string{topic}, handler) != nil {
			time.Sleep(200 * time.Millisecond)
		}
	}
	member.Close()
	client.Close()
}
