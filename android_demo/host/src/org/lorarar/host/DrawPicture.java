package org.lorarar.host;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lorarar.core.Drawing;
import org.lorarar.core.Json;
import org.lorarar.core.LayerNames;
import org.lorarar.core.Lora;
import org.lorarar.core.LorararException;
import org.lorarar.core.Picture;
import org.lorarar.core.Pipeline;
import org.lorarar.core.Request;
import org.lorarar.engine.ExecuTorch;

/**
 * Merges two LoRAs and draws with both, as the app does.
 *
 * <p>Arguments: exported folder, content LoRA, style LoRA, names.json, folder for what comes out,
 * prompt, seed, steps, guidance. Written are pixels.raw (RGB bytes, row after row), latents.raw
 * (float32, little-endian) and drawn.json (size and times).
 */
public final class DrawPicture {
    private DrawPicture() {}

    public static void main(String[] arguments) throws IOException {
        try {
            draw(arguments);
        } catch (LorararException error) {
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }

    private static void draw(String[] arguments) throws IOException {
        byte[] asset = Files.readAllBytes(new File(arguments[3]).toPath());
        LayerNames names = LayerNames.parse(new String(asset, StandardCharsets.UTF_8));
        Lora content = Lora.load(new File(arguments[1]), names);
        Lora style = Lora.load(new File(arguments[2]), names);
        Request request = new Request(
            arguments[5], null, Integer.parseInt(arguments[7]), Float.parseFloat(arguments[8]),
            Long.parseLong(arguments[6]), null);
        try (Pipeline pipeline =
                Pipeline.open(new File(arguments[0]), new ExecuTorch(1), true)) {
            pipeline.usePair(content, style, 1, 1);
            Drawing drawing = pipeline.start(request);
            List<Object> steps = new ArrayList<>();
            long before = System.nanoTime();
            while (drawing.step()) {
                long now = System.nanoTime();
                steps.add((now - before) / 1e6);
                before = now;
            }
            Map<String, Object> about = new LinkedHashMap<>();
            about.put("merge_ms", pipeline.mergeTime().milliseconds());
            about.put("step_ms", steps);
            write(drawing.latents(), pipeline.decode(drawing.latents()), about, arguments[4]);
        }
    }

    private static void write(
            float[] latents, Picture picture, Map<String, Object> about, String folder)
            throws IOException {
        ByteBuffer raw = ByteBuffer.allocate(4 * latents.length).order(ByteOrder.LITTLE_ENDIAN);
        raw.asFloatBuffer().put(latents);
        Files.write(new File(folder, "latents.raw").toPath(), raw.array());
        ByteBuffer pixels = ByteBuffer.allocate(3 * picture.argb.length);
        for (int color : picture.argb) {
            pixels.put((byte) (color >> 16)).put((byte) (color >> 8)).put((byte) color);
        }
        Files.write(new File(folder, "pixels.raw").toPath(), pixels.array());
        about.put("width", (long) picture.width);
        about.put("height", (long) picture.height);
        byte[] json = Json.write(about).getBytes(StandardCharsets.UTF_8);
        Files.write(new File(folder, "drawn.json").toPath(), json);
    }
}
