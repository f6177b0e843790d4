"""stub"""
def validate(frame: bytes) -> bytes:
    return frame
