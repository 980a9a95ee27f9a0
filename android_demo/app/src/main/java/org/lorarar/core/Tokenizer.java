package org.lorarar.core;

import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
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
    // What a tokenizer_config.json may say; other values give other ids.
    private static final String[][] KNOWN = {
        {"padding_side", "right"},
        {"truncation_side", "right"},
        {"split_special_tokens", "False"},
        {"add_prefix_space", "False"},
        {"do_lower_case", "True"},
    };
    private static final int LONGEST = 4096; // transformers writes 1e30 where nobody set a length

    private final BytePairs pairs;
    private final Map<String, Integer> special = new LinkedHashMap<>();
    /** Of words that training added: their ids, each with those of further vectors. */
    private final Map<String, List<Integer>> added = new LinkedHashMap<>();
    private final Pattern addedWords; // the longest first
    private final int begin;
    private final int end;
    private final int pad;
    /** Of what every text becomes. */
    public final int length;

    /**
     * Read vocab.json, merges.txt and tokenizer_config.json of a pipeline's tokenizer.
     *
     * <p>Special tokens are those of the configuration; where it has no "added_tokens_decoder",
     * those of special_tokens_map.json, and added tokens those of added_tokens.json.
     *
     * @throws LorararException if one of these is missing, damaged or not supported
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
        Map<String, Integer> ids = added(folder, config);
        for (String[] allowed : KNOWN) {
            Object value = config.get(allowed[0]);
            if (value != null && !PythonText.of(value).equals(allowed[1])) {
                throw new IllegalArgumentException(
                    allowed[0] + " " + PythonText.of(value) + " is not supported");
            }
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
        ids.keySet().removeAll(Arrays.asList(named));
        addedWords = words(ids);
        begin = pairs.id(named[0]);
        end = pairs.id(named[1]);
        pad = pairs.id(named[3]);
        double wanted = fields.number("model_max_length");
        if (!(2 < wanted && wanted <= LONGEST)) {
            throw new IllegalArgumentException("model_max_length " + wanted);
        }
        length = (int) wanted;
    }

    /** Added tokens with their ids; special tokens of old files are put into the configuration. */
    private static Map<String, Integer> added(File folder, Map<String, Object> config)
            throws LorararException {
        Map<String, Integer> ids = new LinkedHashMap<>();
        if (config.containsKey("added_tokens_decoder")) {
            Fields decoder = new Fields(config).object("added_tokens_decoder");
            for (String number : decoder.map.keySet()) {
                Fields token = decoder.object(number);
                if (Boolean.TRUE.equals(token.map.get("single_word"))) {
                    throw new IllegalArgumentException(
                        "single_word of " + token.text("content") + " is not supported");
                }
                ids.put(token.text("content"), Integer.valueOf(number));
            }
            return ids;
        }
        // from transformers before 4.34
        config.putAll(Json.object(Files.text(new File(folder, "special_tokens_map.json"))));
        File old = new File(folder, "added_tokens.json");
        if (old.exists()) {
            Fields tokens = new Fields(Json.object(Files.text(old)));
            for (String token : tokens.map.keySet()) {
                ids.put(token, tokens.small(token));
            }
        }
        return ids;
    }

    /** Fill `added`; returns what finds its words, or null if there are none. */
    private Pattern words(Map<String, Integer> ids) {
        List<String> longestFirst = new ArrayList<>(ids.keySet());
        Collections.sort(longestFirst, new Comparator<String>() {
            @Override
            public int compare(String one, String other) {
                return Integer.compare(other.length(), one.length());
            }
        });
        StringBuilder any = new StringBuilder();
        for (String token : longestFirst) {
            List<Integer> vectors = new ArrayList<>();
            vectors.add(ids.get(token));
            for (int i = 1; ids.containsKey(token + "_" + i); i++) { // as diffusers names them
                vectors.add(ids.get(token + "_" + i));
            }
            added.put(token, vectors);
            any.append(any.length() == 0 ? "" : "|").append(Pattern.quote(token));
        }
        return any.length() == 0 ? null : Pattern.compile(any.toString());
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
        List<Integer> found = all(text);
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

    /** How many of a text's tokens have no room. */
    int cut(String text) {
        return Math.max(0, all(text).size() - (length - 2));
    }

    private List<Integer> all(String text) {
        List<Integer> found = new ArrayList<>();
        int from = 0;
        if (addedWords != null) {
            Matcher matcher = addedWords.matcher(text);
            while (matcher.find()) {
                addPlain(text.substring(from, matcher.start()), found);
                found.addAll(added.get(matcher.group()));
                from = matcher.end();
            }
        }
        addPlain(text.substring(from), found);
        return found;
    }

    private void addPlain(String text, List<Integer> found) {
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
        while (matcher.find()) {
            pairs.add(matcher.group(), found);
        }
    }
}
