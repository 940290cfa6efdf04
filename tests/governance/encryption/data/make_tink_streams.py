"""How tink_streams.json was made: ``python make_tink_streams.py tink_streams.json`` in an environment of its own with ``pip install tink==1.16.1``."""

import base64
import io
import json
import sys
from pathlib import Path

import tink
from tink import cleartext_keyset_handle, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2


class Kept(io.BytesIO):
    def close(self):
        pass  # Tink closes what it writes to


def primitive(key, chunk):
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=key)
    value.params.ciphertext_segment_size = chunk
    value.params.derived_key_size = 32
    value.params.hkdf_hash_type = common_pb2.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = value.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset.SerializeToString()))
    return handle.primitive(streaming_aead.StreamingAead)


def main():
    streaming_aead.register()
    key = bytes(range(32))
    first, rest = 64 - 56, 64 - 16
    sizes = [(64, n) for n in (0, 1, first - 1, first, first + 1, first + rest, first + rest + 1, first + 3 * rest + 5)]
    cases = []
    for chunk, size in [*sizes, (4096, 4040), (4096, 9000)]:
        for bound in (b"", b"file 7"):
            sink = Kept()
            with primitive(key, chunk).new_encrypting_stream(sink, bound) as stream:
                stream.write(bytes(i * 7 % 251 for i in range(size)))
            case = {"chunk": chunk, "associated_data": bound.hex(), "plaintext_bytes": size}
            cases.append(case | {"stream": base64.b64encode(sink.getvalue()).decode()})
    made = "make_tink_streams.py with Tink for Python 1.16.1; byte i of each plaintext is 7 i mod 251; the salts and nonce prefixes are Tink's"
    with Path(sys.argv[1]).open("w") as file:
        json.dump({"how_made": made, "key": key.hex(), "cases": cases}, file, indent=1)


main()
