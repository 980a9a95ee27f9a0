package org.lorarar.core;

import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * CLIP's tokenizer (Radford et al. 2103.00020), the twin of lorarar.runtime.tokenizer.
 *
 * <p>Letters, numbers and lower case are those of this Java's version of Unicode: 8.0 on
 * Android 8, 13.0 in JDK 17, where Python 3.11 has 14.0. Newer letters may get other ids.
 */
public final class Tokenizer {
    // Of lower-case text; the spaces are those of Unicode, and written out, as Android's and the
    // desktop's expressions differ in \s. Ignoring case, U+017F is an s.
    private static final Pattern WORDS = Pattern.compile("'[s\u017f]|'t|'re|'ve|'m|'ll|'d"
        + "|\\p{L}+|\\p{N}|[^\\t-\\r\\x85\\p{Z}\\p{L}\\p{N}]+");
    private static final int LONGEST = 4096; // transformers writes 1e30 where nobody set a length

    private final BytePairs pairs;
    private final Map<String, Integer> special = new LinkedHashMap<>();
    private final int begin;
    private final int end;
    private final int pad;
    /** Of what every text becomes. */
    public final int length;

    /**
     * Read vocab.json, merges.txt and tokenizer_config.json of a pipeline's tokenizer.
     *
     * <p>Special tokens are those of the configuration, or of special_tokens_map.json where the
     * configuration has no "added_tokens_decoder".
     *
     * @throws LorararException if one of these is missing or damaged
     */
    public static Tokenizer read(File folder) throws LorararException {
        try {
            return new Tokenizer(folder);
        } catch (LorararException | IllegalArgumentException error) {
            throw new LorararException(folder + ": no usable tokenizer (" + error.getMessage()
                + "); export it again", error);
        }
    }

    private Tokenizer(File folder) throws LorararException {
        Map<String, Object> config = Json.object(
            Files.text(new File(folder, "tokenizer_config.json")));
        if (!config.containsKey("added_tokens_decoder")) { // from transformers before 4.34
            config.putAll(Json.object(Files.text(new File(folder, "special_tokens_map.json"))));
        }
        Fields fields = new Fields(config);
        String[] named = new String[4];
        String[] names = {"bos_token", "eos_token", "unk_token", "pad_token"};
        for (int i = 0; i < 4; i++) {
            named[i] = token(fields.get(names[i]), names[i]);
        }
        pairs = BytePairs.read(
            new File(folder, "vocab.json"), new File(folder, "merges.txt"), named[2]);
        for (String token : new String[] {named[0], named[1], named[3]}) {
            if (pairs.id(token) == null) {
                throw new IllegalArgumentException("its vocab.json lacks one of "
                    + named[0] + ", " + named[1] + ", " + named[3]);
            }
        }
        for (String token : named) {
            if (!token.isEmpty()) {
                Integer id = pairs.id(token);
                special.put(token, id == null ? pairs.size() : id);
            }
        }
        begin = pairs.id(named[0]);
        end = pairs.id(named[1]);
        pad = pairs.id(named[3]);
        double wanted = fields.number("model_max_length");
        if (!(2 < wanted && wanted <= LONGEST)) {
            throw new IllegalArgumentException("model_max_length " + wanted);
        }
        length = (int) wanted;
    }

    private static String token(Object given, String name) {
        return given instanceof String
            ? (String) given : Fields.object(given, name).text("content");
    }

    /**
     * The ids of a text: begin, at most length - 2 tokens, end, padding.
     *
     * <p>Special tokens in the text count as such, so with pad "!" every "!" has its id.
     */
    public long[] ids(String text) {
        List<Integer> found = new ArrayList<>();
        String clean = Words.clean(text);
        int from = 0;
        for (int at = 0; at < clean.length();) {
            String token = specialAt(clean, at);
            if (token == null) {
                at++;
                continue;
            }
            addWords(clean.substring(from, at), found);
            found.add(special.get(token));
            at += token.length();
            from = at;
        }
        addWords(clean.substring(from), found);
        long[] ids = new long[length];
        Arrays.fill(ids, pad);
        int kept = Math.min(found.size(), length - 2);
        ids[0] = begin;
        for (int i = 0; i < kept; i++) {
            ids[i + 1] = found.get(i);
        }
        ids[kept + 1] = end;
        return ids;
    }

    /** The longest special token that begins there, or null. */
    private String specialAt(String text, int at) {
        String longest = null;
        for (String token : special.keySet()) {
            boolean isLonger = longest == null || token.length() > longest.length();
            if (isLonger && text.startsWith(token, at)) {
                longest = token;
            }
        }
        return longest;
    }

    private void addWords(String text, List<Integer> found) {
        Matcher matcher = WORDS.matcher(text);
        while (matcher.find() && found.size() < length) {
            pairs.add(matcher.group(), found);
        }
    }
}
