package org.lorarar.core;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** A JSON object's fields, of the types that are wanted; what is wrong is said as in Python. */
final class Fields {
    final Map<String, Object> map;

    Fields(Map<String, Object> map) {
        this.map = map;
    }

    /** @throws IllegalArgumentException if there is none of this name, as all others do */
    Object get(String name) {
        if (!map.containsKey(name)) {
            throw new IllegalArgumentException("KeyError('" + name + "')");
        }
        return map.get(name);
    }

    String text(String name) {
        return of(String.class, name);
    }

    boolean flag(String name) {
        return of(Boolean.class, name);
    }

    double number(String name) {
        return of(Number.class, name).doubleValue();
    }

    long whole(String name) {
        return of(Long.class, name);
    }

    /** A whole number of at most 2**31 - 1. */
    int small(String name) {
        long value = whole(name);
        if (value < 0 || value > Integer.MAX_VALUE) {
            throw new IllegalArgumentException(name + " " + value);
        }
        return (int) value;
    }

    Fields object(String name) {
        return object(get(name), name);
    }

    List<Object> list(String name) {
        return list(get(name), name);
    }

    List<String> texts(String name) {
        List<String> texts = new ArrayList<>();
        for (Object each : list(name)) {
            texts.add(as(String.class, each, name));
        }
        return texts;
    }

    List<Long> wholes(String name) {
        List<Long> wholes = new ArrayList<>();
        for (Object each : list(name)) {
            wholes.add(as(Long.class, each, name));
        }
        return wholes;
    }

    private <T> T of(Class<T> type, String name) {
        return as(type, get(name), name);
    }

    static <T> T as(Class<T> type, Object value, String name) {
        if (!type.isInstance(value)) {
            throw new IllegalArgumentException("TypeError('" + name + " is " + PythonText.of(value)
                + "')");
        }
        return type.cast(value);
    }

    @SuppressWarnings("unchecked")
    static Fields object(Object value, String name) {
        return new Fields((Map<String, Object>) as(Map.class, value, name));
    }

    @SuppressWarnings("unchecked")
    static List<Object> list(Object value, String name) {
        return (List<Object>) as(List.class, value, name);
    }
}
