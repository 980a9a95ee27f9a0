package org.lorarar.core;

/** numpy's SeedSequence: a seed's bits, spread evenly (O'Neill 2015, "Developing a seed_seq"). */
final class SeedSequence {
    private static final int POOL = 4;
    private static final int MIX_LEFT = 0xca01f9dd;
    private static final int MIX_RIGHT = 0x4973f715;

    private int constant = 0x43b0d7e5;
    private final int[] pool = new int[POOL];

    private SeedSequence(long seed) {
        int[] entropy = {(int) seed, (int) (seed >>> 32), 0, 0};
        for (int i = 0; i < POOL; i++) {
            pool[i] = hash(entropy[i]);
        }
        for (int from = 0; from < POOL; from++) {
            for (int to = 0; to < POOL; to++) {
                if (from != to) {
                    int mixed = MIX_LEFT * pool[to] - MIX_RIGHT * hash(pool[from]);
                    pool[to] = mixed ^ mixed >>> 16;
                }
            }
        }
    }

    /** generate_state(4, uint64) of a seed from 0 on. */
    static long[] state(long seed) {
        int[] pool = new SeedSequence(seed).pool;
        long[] state = new long[4];
        int constant = 0x8b51f9dd;
        for (int i = 0; i < 8; i++) {
            int word = pool[i % POOL] ^ constant;
            constant *= 0x58f38ded;
            word *= constant;
            word ^= word >>> 16;
            state[i / 2] |= (word & 0xffffffffL) << 32 * (i % 2);
        }
        return state;
    }

    private int hash(int value) {
        int hashed = value ^ constant;
        constant *= 0x931e8875;
        hashed *= constant;
        return hashed ^ hashed >>> 16;
    }
}
