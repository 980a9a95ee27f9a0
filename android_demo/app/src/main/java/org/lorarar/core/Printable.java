package org.lorarar.core;

/** Text out of files with escapes in place of what would steer a terminal or hide in a line. */
final class Printable {
    private Printable() {
    }

    /** What lorarar.errors.printable gives: escapes as in Python's unicode_escape. */
    static String of(String text) {
        StringBuilder out = new StringBuilder();
        for (int at = 0; at < text.length(); at += Character.charCount(text.codePointAt(at))) {
            int letter = text.codePointAt(at);
            if (isPrintable(letter)) {
                out.appendCodePoint(letter);
            } else {
                out.append(escaped(letter));
            }
        }
        return out.toString();
    }

    private static boolean isPrintable(int letter) {
        switch (Character.getType(letter)) {
            case Character.LINE_SEPARATOR:
            case Character.PARAGRAPH_SEPARATOR:
                return false;
            case Character.SPACE_SEPARATOR:
                return letter == ' ';
            default:
                return !isOther(letter);
        }
    }

    /** Whether a letter is of Unicode's category C: controls, formats and what is no letter. */
    static boolean isOther(int letter) {
        switch (Character.getType(letter)) {
            case Character.CONTROL:
            case Character.FORMAT:
            case Character.SURROGATE:
            case Character.PRIVATE_USE:
            case Character.UNASSIGNED:
                return true;
            default:
                return false;
        }
    }

    private static String escaped(int letter) {
        int usual = "\t\n\r".indexOf(letter);
        if (usual >= 0) {
            return "\\" + "tnr".charAt(usual);
        }
        String form = letter < 0x100 ? "\\x%02x" : letter < 0x10000 ? "\\u%04x" : "\\U%08x";
        return String.format(form, letter);
    }
}
