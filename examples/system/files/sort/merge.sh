#!/bin/sh
# Sorting parts and merging them gives the same as sorting all, also with too little memory and in parallel.
#
# /// pexen
# host = ["cmd:sort", "cmd:split"]
# ///
set -eu
. ../../lib/check.sh

# All numbers below the prime 20011, each once, in an order that looks random.
awk 'BEGIN { for (i = 1; i < 20011; i++) print (i * 7919) % 20011, "line" }' >all
sort all >expected
sort -c expected || fail 'sort -c refuses what sort wrote'
sort -c all 2>/dev/null && fail 'sort -c accepts what is not sorted'

split -l 3000 all part.
for part in part.*; do sort -o "$part" "$part"; done
sort -m part.* >merged
cmp expected merged || fail 'merged parts differ from the whole'

sort -S 64K -T . --parallel=2 all >small
cmp expected small || fail 'sorting through temporary files changed the order'
