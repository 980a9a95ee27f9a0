package org.lorarar.core;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A tensor's place in a mapped part of its file; a part is at most 2 GB, as Java's buffers are. */
final class Mapped {
    private final ByteBuffer part;
    private final int begin;
    private final int size;

    private Mapped(ByteBuffer part, int begin, int size) {
        this.part = part;
        this.begin = begin;
        this.size = size;
    }

    ByteBuffer bytes() {
        ByteBuffer bytes = part.duplicate();
        bytes.position(begin);
        bytes.limit(begin + size);
        return bytes.slice().order(ByteOrder.LITTLE_ENDIAN);
    }

    /** Map a file's tensors; those larger than 2 GB, which no LoRA of a phone has, are left out. */
    static Map<String, Mapped> all(
            FileChannel file, long dataStart, Map<String, SafetensorsHeader.Place> places)
            throws IOException {
        List<Map.Entry<String, SafetensorsHeader.Place>> inOrder =
            new ArrayList<>(places.entrySet());
        Collections.sort(inOrder, new Comparator<Map.Entry<String, SafetensorsHeader.Place>>() {
            @Override
            public int compare(
                    Map.Entry<String, SafetensorsHeader.Place> one,
                    Map.Entry<String, SafetensorsHeader.Place> other) {
                return Long.compare(one.getValue().end, other.getValue().end);
            }
        });
        Map<String, Mapped> mapped = new HashMap<>();
        ByteBuffer part = ByteBuffer.allocate(0);
        long start = 0;
        for (Map.Entry<String, SafetensorsHeader.Place> each : inOrder) {
            SafetensorsHeader.Place place = each.getValue();
            long size = place.end - place.begin;
            if (size > Integer.MAX_VALUE) {
                continue;
            }
            if (place.end - start > part.capacity()) {
                start = place.begin;
                long length = Math.min(file.size() - dataStart - start, Integer.MAX_VALUE);
                part = file.map(FileChannel.MapMode.READ_ONLY, dataStart + start, length);
            }
            mapped.put(each.getKey(), new Mapped(part, (int) (place.begin - start), (int) size));
        }
        return mapped;
    }
}
