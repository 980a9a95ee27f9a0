package org.lorarar.core;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * How tools name a layer's tensors: wrappers, the layer, an ending that says which part it is.
 *
 * <p>The twin of lorarar/lora_names.py, whose expressions come in the asset names.json.
 */
final class Naming {
    /** A tensor's layer, as the file names it, and the part of it that the tensor is. */
    static final class Tensor {
        final String layer;
        final String part;

        Tensor(String layer, String part) {
            this.layer = layer;
            this.part = part;
        }
    }

    /** A layer's name without wrappers, with underscores, and the component these name or null. */
    static final class Spelling {
        final String name;
        final String component;

        Spelling(String name, String component) {
            this.name = name;
            this.component = component;
        }
    }

    private static final String USUAL = ".lora_";

    private final Map<String, String> usual = new LinkedHashMap<>();
    private final Pattern ending;
    private final List<String> parts = new ArrayList<>();
    private final Pattern lycoris;
    private final Pattern wrapper;
    private final List<String> components = new ArrayList<>();

    Naming(Map<?, ?> asset) {
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) asset.get("usual")).entrySet()) {
            usual.put((String) entry.getKey(), (String) entry.getValue());
        }
        StringBuilder forms = new StringBuilder();
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) asset.get("endings")).entrySet()) {
            forms.append(forms.length() == 0 ? "" : "|").append('(').append(entry.getKey());
            forms.append(')');
            parts.add((String) entry.getValue());
        }
        ending = compiled("(?:" + forms + ")\\z");
        lycoris = compiled((String) asset.get("lycoris"));
        wrapper = compiled((String) asset.get("wrapper"));
        for (Object component : (List<?>) asset.get("components")) {
            components.add((String) component);
        }
    }

    /** Compile an expression of Python's, in which only \n ends a line. */
    static Pattern compiled(String expression) {
        return Pattern.compile(expression, Pattern.UNIX_LINES);
    }

    /** Split a tensor's name; null if it does not end as a part of an adapted layer does. */
    Tensor split(String tensor) {
        int at = tensor.lastIndexOf(USUAL);
        String part = at > 0 ? usual.get(tensor.substring(at + USUAL.length())) : null;
        if (part != null) { // most are: a regular expression takes longer than all the rest
            return new Tensor(tensor.substring(0, at), part);
        }
        Matcher ended = ending.matcher(tensor);
        if (!tensor.isEmpty() && ended.find(1)) {
            return new Tensor(tensor.substring(0, ended.start()), parts.get(firstGroup(ended)));
        }
        Matcher whole = lycoris.matcher(tensor);
        return whole.matches() ? new Tensor(whole.group(1), whole.group(2)) : null;
    }

    /** What a file's name for a layer comes to. */
    Spelling spelling(String layer) {
        String flat = layer.replace('.', '_');
        String component = null;
        int start = 0;
        Matcher wrapped = wrapper.matcher(flat);
        while (wrapped.region(start, flat.length()).lookingAt()) {
            start = wrapped.end();
            int named = firstGroup(wrapped);
            component = named < 0 ? component : components.get(named);
        }
        return new Spelling(flat.substring(start).replace("_processor_", "_"), component);
    }

    /** The index of the first group that took part, from 0, or -1. */
    private static int firstGroup(Matcher found) {
        for (int i = 0; i < found.groupCount(); i++) {
            if (found.group(i + 1) != null) {
                return i;
            }
        }
        return -1;
    }
}
