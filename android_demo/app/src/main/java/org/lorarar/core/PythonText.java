package org.lorarar.core;

import java.math.BigDecimal;
import java.util.List;
import java.util.Map;

/** JSON's values in Python's words, so that messages about them are the same. */
final class PythonText {
    private PythonText() {
    }

    /** bool(value). */
    static boolean isTrue(Object value) {
        if (value instanceof Number) {
            return ((Number) value).doubleValue() != 0;
        }
        if (value instanceof List) {
            return !((List<?>) value).isEmpty();
        }
        if (value instanceof Map) {
            return !((Map<?, ?>) value).isEmpty();
        }
        return value != null && !value.equals(false) && !value.equals("");
    }

    /** str(value). */
    static String of(Object value) {
        return value instanceof String ? (String) value : repr(value);
    }

    /** str(value)[:most], counted in code points. */
    static String of(Object value, int most) {
        String text = of(value);
        int length = text.codePointCount(0, text.length());
        return length <= most ? text : text.substring(0, text.offsetByCodePoints(0, most));
    }

    private static String repr(Object value) {
        if (value == null) {
            return "None";
        }
        if (value instanceof Boolean) {
            return (Boolean) value ? "True" : "False";
        }
        if (value instanceof Double) {
            return decimal((Double) value);
        }
        if (value instanceof String) {
            return quoted((String) value);
        }
        StringBuilder out = new StringBuilder();
        if (value instanceof List) {
            for (Object each : (List<?>) value) {
                out.append(out.length() == 0 ? "" : ", ").append(repr(each));
            }
            return "[" + out + "]";
        }
        if (value instanceof Map) {
            for (Map.Entry<?, ?> each : ((Map<?, ?>) value).entrySet()) {
                out.append(out.length() == 0 ? "" : ", ").append(repr(each.getKey()));
                out.append(": ").append(repr(each.getValue()));
            }
            return "{" + out + "}";
        }
        return value.toString();
    }

    /** Java's digits in Python's form: 1e+31, 0.5, 1e-05. */
    private static String decimal(double value) {
        if (Double.isInfinite(value)) {
            return value > 0 ? "inf" : "-inf";
        }
        double size = Math.abs(value);
        if (size == 0 || size >= 1e-4 && size < 1e16) {
            String plain = new BigDecimal(Double.toString(value)).toPlainString();
            return plain.indexOf('.') < 0 ? plain + ".0" : plain;
        }
        String[] parts = Double.toString(value).split("E");
        int exponent = Integer.parseInt(parts[1]);
        String digits = parts[0].endsWith(".0")
            ? parts[0].substring(0, parts[0].length() - 2) : parts[0];
        String sign = exponent < 0 ? "-" : "+";
        return digits + "e" + sign + String.format("%02d", Math.abs(exponent));
    }

    private static String quoted(String text) {
        char quote = text.indexOf('\'') >= 0 && text.indexOf('"') < 0 ? '"' : '\'';
        StringBuilder out = new StringBuilder().append(quote);
        for (char each : Printable.of(text.replace("\\", "\\\\")).toCharArray()) {
            out.append(each == quote ? "\\" + each : String.valueOf(each));
        }
        return out.append(quote).toString();
    }
}
