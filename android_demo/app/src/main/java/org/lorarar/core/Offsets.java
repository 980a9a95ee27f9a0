package org.lorarar.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Layers' offsets as a merger's manifest packs them: a safetensors file in base64. */
final class Offsets {
    private Offsets() {
    }

    /** Layer -> (2, in); throws IllegalArgumentException if that is not what is packed. */
    static Map<String, float[][]> unpacked(String packed) {
        byte[] file = Base64.getDecoder().decode(packed);
        ByteBuffer bytes = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        long size = file.length < 8 ? -1 : bytes.getLong(0);
        if (size < 0 || size > file.length - 8) {
            throw new IllegalArgumentException("its offsets are cut off");
        }
        Fields header = new Fields(
            Json.object(new String(file, 8, (int) size, StandardCharsets.UTF_8)));
        bytes.position(8 + (int) size);
        ByteBuffer data = bytes.slice().order(ByteOrder.LITTLE_ENDIAN);
        Map<String, float[][]> offsets = new HashMap<>();
        for (String layer : header.map.keySet()) {
            if (!layer.equals("__metadata__")) {
                offsets.put(layer, matrix(header.object(layer), layer, data));
            }
        }
        return offsets;
    }

    private static float[][] matrix(Fields tensor, String layer, ByteBuffer data) {
        List<Long> shape = tensor.wholes("shape");
        List<Long> place = tensor.wholes("data_offsets");
        boolean fits = tensor.text("dtype").equals("F32") && shape.size() == 2
            && shape.get(0) == 2 && place.size() == 2 && place.get(0) >= 0
            && place.get(1) <= data.capacity() && shape.get(1) >= 0
            && place.get(1) - place.get(0) == 8 * shape.get(1);
        if (!fits) {
            throw new IllegalArgumentException("its offset of '" + layer + "' is misshapen");
        }
        int columns = shape.get(1).intValue();
        float[][] offset = new float[2][columns];
        for (int i = 0; i < 2 * columns; i++) {
            offset[i / columns][i % columns] = data.getFloat(place.get(0).intValue() + 4 * i);
        }
        return offset;
    }
}
