#!/usr/bin/env python3
"""Writes tiny.elf and the measurement that it must have, computed without the crate's code.

Follows SDM volume 3D, 38.4.1.1: SHA-256 over 64-byte records of ECREATE, EADD and EEXTEND.
"""
import hashlib
import pathlib
import struct

HERE = pathlib.Path(__file__).parent


def tiny_elf():
    # (flags, file offset, address, file size, memory size): code, data that shares the code's
    # last page, and zero-initialised memory over three pages.
    loads = [
        (5, 0x000, 0x0000, 0x0A80, 0x0A80),
        (6, 0xA80, 0x0A80, 0x0300, 0x0300),
        (6, 0xD80, 0x2F80, 0x0100, 0x2100),
    ]
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0x200, 64, 0, 0, 64, 56, len(loads) + 1, 0, 0, 0
    )
    table = b"".join(
        struct.pack("<IIQQQQQQ", 1, f, off, va, va, fs, ms, 0x1000) for f, off, va, fs, ms in loads
    )
    # Something that is not loaded: GNU_STACK.
    table += struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    body = bytes((i * 7 + 3) % 251 for i in range(0xE80))
    head = header + table
    return head + body[len(head):]


def manifest():
    # [h'11..11', h'22..22', null, "tiny-1.0.0", 7, 300, 0] in canonical CBOR.
    return (
        b"\x87" + b"\x58\x20" + b"\x11" * 32 + b"\x58\x20" + b"\x22" * 32 + b"\xf6"
        + b"\x6a" + b"tiny-1.0.0" + b"\x07" + b"\x19\x01\x2c" + b"\x00"
    )


def pages_of(elf):
    phoff, = struct.unpack_from("<Q", elf, 32)
    ehsize, phentsize, phnum = struct.unpack_from("<HHH", elf, 52)
    memory, flags = {}, {}

    def load(address, size, secinfo, data):
        for va in range(address & ~4095, address + size, 4096):
            flags[va] = flags.get(va, 0) | secinfo
            memory.setdefault(va, bytearray(4096))
        for i, byte in enumerate(data):
            memory[(address + i) & ~4095][(address + i) & 4095] = byte

    for i in range(phnum):
        kind, f, off, va, _, fs, ms, _ = struct.unpack_from("<IIQQQQQQ", elf, phoff + i * phentsize)
        if kind == 1:
            rwx = (f >> 2 & 1) | (f & 2) | (f & 1) << 2
            load(va, ms, rwx | 0x200, elf[off:off + fs])
    encoded = manifest()
    measured = b"heirloom v1 manifest\0" + struct.pack("<Q", len(encoded)) + encoded
    for extra in (elf[:ehsize] + elf[phoff:phoff + phnum * phentsize], measured):
        load(max(memory) + 4096, len(extra), 0x201, extra)
    return sorted((va, flags[va], bytes(memory[va])) for va in memory)


def measure(pages):
    end, size = pages[-1][0] + 4096, 8192
    while size < end:
        size *= 2
    record = lambda tag, fields: (tag.ljust(8, b"\0") + fields).ljust(64, b"\0")
    hash = hashlib.sha256(record(b"ECREATE", struct.pack("<IQ", 1, size)))
    for va, secinfo, content in pages:
        hash.update(record(b"EADD", struct.pack("<QQ", va, secinfo)))
        for at in range(0, 4096, 256):
            hash.update(record(b"EEXTEND", struct.pack("<Q", va + at)))
            hash.update(content[at:at + 256])
    return hash.hexdigest()


if __name__ == "__main__":
    elf = tiny_elf()
    (HERE / "tiny.elf").write_bytes(elf)
    (HERE / "tiny.mrenclave").write_text(measure(pages_of(elf)) + "\n")
