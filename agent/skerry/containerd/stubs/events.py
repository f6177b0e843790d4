# Made by tools/proto of events.proto.
from skerry.containerd.stubs import load

_DATA = (
    b'\n\x0cevents.proto\x12\x1dcontainerd.services.events.v1",\n\x10SubscribeRe'
    b'quest\x12\x18\n\x07filters\x18\x01 \x03(\tR\x07filters":\n\x07Payload\x12\x19\n\x08type_url\x18\x01 \x01(\t'
    b'R\x07typeUrl\x12\x14\n\x05value\x18\x02 \x01(\x0cR\x05value"|\n\x08Envelope\x12\x1c\n\tnamespace\x18\x02 \x01'
    b'(\tR\tnamespace\x12\x14\n\x05topic\x18\x03 \x01(\tR\x05topic\x12<\n\x05event\x18\x04 \x01(\x0b2&.contain'
    b'erd.services.events.v1.PayloadR\x05event".\n\tTaskEvent\x12!\n\x0ccontai'
    b'ner_id\x18\x01 \x01(\tR\x0bcontainerId"=\n\x08TaskExit\x12!\n\x0ccontainer_id\x18\x01 \x01(\tR'
    b'\x0bcontainerId\x12\x0e\n\x02id\x18\x02 \x01(\tR\x02idb\x06proto3'
)
load(_DATA, globals())
