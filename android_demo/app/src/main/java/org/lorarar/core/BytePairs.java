package org.lorarar.core;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Byte-level byte pair encoding with "&lt;/w&gt;" at words' ends (Sennrich et al. 1508.07909). */
final class BytePairs {
    private static final String END = "</w>";
    private static final char[] LETTERS = letters();

    private final Map<String, Integer> vocabulary = new HashMap<>();
    private final Map<Long, Integer> ranks = new HashMap<>();
    private final Map<Long, Integer> merged = new HashMap<>();
    private final Integer unknown;

    private BytePairs(Map<String, Object> vocabulary, String[] merges, String unknown) {
        for (Map.Entry<String, Object> entry : vocabulary.entrySet()) {
            long id = Fields.as(Long.class, entry.getValue(), entry.getKey());
            if (id < 0 || id > Integer.MAX_VALUE) {
                throw new IllegalArgumentException("'" + entry.getKey() + "' has id " + id);
            }
            this.vocabulary.put(entry.getKey(), (int) id);
        }
        this.unknown = this.vocabulary.get(unknown);
        int rank = 0;
        for (String line : merges) {
            if (line.startsWith("#version")) {
                continue;
            }
            String[] two = line.split(" ", -1);
            if (two.length != 2) {
                throw new IllegalArgumentException("merges.txt: bad line '" + line + "'");
            }
            long pair = pair(known(two[0]), known(two[1]));
            ranks.put(pair, rank++);
            merged.put(pair, known(two[0] + two[1]));
        }
    }

    /** @throws IllegalArgumentException if the files do not fit together, or are none of these */
    static BytePairs read(File vocabulary, File merges, String unknown) throws LorararException {
        String lines = Files.text(merges);
        lines = lines.endsWith("\n") ? lines.substring(0, lines.length() - 1) : lines;
        return new BytePairs(
            Json.object(Files.text(vocabulary)), lines.split("\r?\n", -1), unknown);
    }

    private int known(String token) {
        Integer id = vocabulary.get(token);
        if (id == null) {
            throw new IllegalArgumentException("Token `" + token + "` out of vocabulary");
        }
        return id;
    }

    /** A token's id, or null. */
    Integer id(String token) {
        return vocabulary.get(token);
    }

    int size() {
        return vocabulary.size();
    }

    /** Append a word's tokens: the pair of least rank is merged, the first of these, and again. */
    void add(String word, List<Integer> found) {
        byte[] bytes = word.getBytes(StandardCharsets.UTF_8);
        int[] ids = new int[bytes.length];
        int count = 0;
        for (int i = 0; i < bytes.length; i++) {
            String letter = String.valueOf(LETTERS[bytes[i] & 0xff]);
            Integer id = vocabulary.get(i + 1 < bytes.length ? letter : letter + END);
            id = id == null ? unknown : id;
            if (id != null) {
                ids[count++] = id;
            }
        }
        while (true) {
            int best = -1;
            int bestRank = Integer.MAX_VALUE;
            for (int i = 0; i + 1 < count; i++) {
                Integer rank = ranks.get(pair(ids[i], ids[i + 1]));
                if (rank != null && rank < bestRank) {
                    best = i;
                    bestRank = rank;
                }
            }
            if (best < 0) {
                break;
            }
            ids[best] = merged.get(pair(ids[best], ids[best + 1]));
            System.arraycopy(ids, best + 2, ids, best + 1, count - best - 2);
            count--;
        }
        for (int i = 0; i < count; i++) {
            found.add(ids[i]);
        }
    }

    private static long pair(int one, int other) {
        return (long) one << 32 | other;
    }

    /** GPT-2's letters for bytes: themselves where printable, else from U+0100 on. */
    private static char[] letters() {
        char[] letters = new char[256];
        char next = 0x100;
        for (int i = 0; i < 256; i++) {
            boolean isPlain = i > 0x20 && i < 0x7f || i > 0xa0 && i != 0xad;
            letters[i] = isPlain ? (char) i : next++;
        }
        return letters;
    }
}
