"""The clients that can be members of groups: each makes the command of a member, or says why it cannot."""
import os

from lib.clients import (CLIENTS, SOURCES, go_program, java_command, need, need_command, need_module,
                         python_child)


def python_member(client, module):
    need_module(module)
    return lambda *arguments: (python_child("group_member.py", client, *arguments), None)


def go_member(client):
    program = go_program("groups_go")
    return lambda *arguments: ([program, client, *arguments], None)


def kafkajs_member():
    need_command("node")
    modules = os.path.join(CLIENTS, "node", "node_modules")
    need("kafkajs", os.path.isdir(os.path.join(modules, "kafkajs")))
    script = os.path.join(SOURCES, "kafkajs", "member.js")
    return lambda *arguments: (["node", script, *arguments], dict(os.environ, NODE_PATH=modules))


def java_member():
    java_command("GroupMember")  # compiled, or a skip
    return lambda *arguments: (java_command("GroupMember", *arguments), None)


CLIENT_KINDS = {
    "java": java_member,
    "confluent": lambda: python_member("confluent", "confluent_kafka"),
    "kafka-python": lambda: python_member("kafka-python", "kafka"),
    "kafkajs": kafkajs_member,
    "franz": lambda: go_member("franz"),
    "sarama": lambda: go_member("sarama"),
    "kafka-go": lambda: go_member("kafka-go"),
}
