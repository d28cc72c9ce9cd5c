"""Reconsolidation: little surprise makes a memory surer, some moves it, a great one becomes a memory of its own."""

import torch

import mnemotrace as mt

generator = torch.Generator().manual_seed(0)
rooms = 5 * torch.randn(40, 16, generator=generator, dtype=torch.float64)
way = torch.ones(16, dtype=torch.float64)


def mind():
    """A hippocampus whose memories are labile for about six hours after retrieval."""
    return mt.Reconsolidation(mt.DiffusionMemory(rows), variance=1.0, noise=1.0, window=6.0)


print("things moved by   surprise   what happens    memory moves by   memories")
for moved in (0.5, 1.0, 1.5, 1.9, 2.5, 6.0):
    rows = rooms.clone()
    memory = mind()
    handle = memory.retrieve(rooms[3], time=0)
    change = memory.observe(rooms[3] + moved * way, time=0)
    by = (memory.content(handle) - rooms[3]).mean()
    print(f"{moved:7.1f} {change.surprise:16.1f}   {change.regime:14s} {by:9.2f} {len(memory.patterns):17d}")

print("hours later   memory moves by")
for hours in (0, 3, 6, 12, 30):
    rows = rooms.clone()
    memory = mind()
    handle = memory.retrieve(rooms[3], time=0)
    change = memory.observe(rooms[3] + 1.5 * way, time=hours)
    print(f"{hours:6d} {(memory.content(handle) - rooms[3]).mean():17.2f}   {change.regime}")

rows = rooms.clone()
memory = mind()
print("not retrieved:", memory.observe(rooms[3] + way, time=0).note)
for hour in range(1, 20):
    handle = memory.retrieve(rooms[hour % 5], time=hour)
    memory.observe(rooms[hour % 5] + 0.4 * hour * way, time=hour)
print(f"a busy day: {len(memory.log)} entries in the log, {len(memory.patterns)} memories")
memory.undo(len(memory.log))
print("all taken back, bit by bit:", torch.equal(memory.patterns.values, rooms))

# things moved by   surprise   what happens    memory moves by   memories
#     0.5              2.0   strengthened        0.00                40
#     1.0              8.0   strengthened        0.00                40
#     1.5             18.0   updated             0.75                40
#     1.9             28.9   updated             0.95                40
#     2.5             50.0   stored              0.00                41
#     6.0            288.0   stored              0.00                41
# hours later   memory moves by
#      0              0.75   updated
#      3              0.45   updated
#      6              0.28   updated
#     12              0.10   updated
#     30              0.00   ignored
# not retrieved: no memory was labile, so nothing was changed; retrieve one first
# a busy day: 39 entries in the log, 49 memories
# all taken back, bit by bit: True
