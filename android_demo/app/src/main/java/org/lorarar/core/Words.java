package org.lorarar.core;

import java.text.Normalizer;

/** Text as CLIP's tokenizer reads it. */
final class Words {
    private static final int[][] IDEOGRAPHS = { // as of Devlin et al. 1810.04805
        {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xf900, 0xfaff},
        {0x20000, 0x2a6df}, {0x2a700, 0x2ceaf}, {0x2f800, 0x2fa1f},
    };
    // Besides marks, formats and modifiers, what stands within words (Unicode's Word_Break).
    private static final String WITHIN =
        "'.:\u00b7\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a";

    private Words() {
    }

    /** Lower case without control characters, in NFC, ideographs apart. */
    static String clean(String text) {
        StringBuilder kept = new StringBuilder();
        for (int at = 0; at < text.length(); at += Character.charCount(text.codePointAt(at))) {
            int letter = text.codePointAt(at);
            if (isIdeograph(letter)) {
                kept.append(' ').appendCodePoint(letter).append(' ');
            } else if ("\t\n\r".indexOf(letter) >= 0 || !isControl(letter)) {
                kept.appendCodePoint(letter);
            }
        }
        return lower(Normalizer.normalize(kept, Normalizer.Form.NFC));
    }

    private static boolean isIdeograph(int letter) {
        for (int[] range : IDEOGRAPHS) {
            if (range[0] <= letter && letter <= range[1]) {
                return true;
            }
        }
        return false;
    }

    private static boolean isControl(int letter) {
        return letter == 0xfffd || Printable.isOther(letter);
    }

    /** Python's str.lower; Java's own finds the end of a word, for sigma, by other rules. */
    static String lower(String text) {
        StringBuilder low = new StringBuilder();
        for (int at = 0; at < text.length(); at += Character.charCount(text.codePointAt(at))) {
            int letter = text.codePointAt(at);
            if (letter == 0x3a3) {
                low.append(isLast(text, at) ? '\u03c2' : '\u03c3');
            } else if (letter == 0x130) {
                low.append("i\u0307");
            } else {
                low.appendCodePoint(Character.toLowerCase(letter));
            }
        }
        return low.toString();
    }

    /** Whether letters end here, and do not begin (Unicode's Final_Sigma). */
    private static boolean isLast(String text, int sigma) {
        int before = sigma;
        while (before > 0 && isIgnored(text.codePointBefore(before))) {
            before -= Character.charCount(text.codePointBefore(before));
        }
        int after = sigma + 1;
        while (after < text.length() && isIgnored(text.codePointAt(after))) {
            after += Character.charCount(text.codePointAt(after));
        }
        return before > 0 && hasCase(text.codePointBefore(before))
            && !(after < text.length() && hasCase(text.codePointAt(after)));
    }

    private static boolean hasCase(int letter) {
        return Character.isLowerCase(letter) || Character.isUpperCase(letter)
            || Character.isTitleCase(letter);
    }

    private static boolean isIgnored(int letter) {
        switch (Character.getType(letter)) {
            case Character.NON_SPACING_MARK:
            case Character.ENCLOSING_MARK:
            case Character.FORMAT:
            case Character.MODIFIER_LETTER:
            case Character.MODIFIER_SYMBOL:
                return true;
            default:
                return WITHIN.indexOf(letter) >= 0;
        }
    }
}
