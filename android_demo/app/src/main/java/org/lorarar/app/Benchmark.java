package org.lorarar.app;

import android.content.Context;
import android.os.Build;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lorarar.core.Drawing;
import org.lorarar.core.Json;
import org.lorarar.core.Lora;
import org.lorarar.core.LorararException;
import org.lorarar.core.MergeTime;
import org.lorarar.core.Pipeline;
import org.lorarar.core.Request;
import org.lorarar.core.Results;

/** Measures merging and drawing on this phone; runs on the worker. */
final class Benchmark {
    static final int MERGES = 100;
    static final int STEPS = 8;

    private static final String BEFORE = "thermal_before";
    private static final String AFTER = "thermal_after";

    private Benchmark() {}

    /** Told how much is done, 0 to 1. */
    interface Progress {
        void done(float share);
    }

    /** What describes this phone, with its thermal status now. */
    static Map<String, Object> device(Context context) {
        Map<String, Object> device = new LinkedHashMap<>();
        device.put("cpu", Build.HARDWARE + ", " + Build.BOARD);
        device.put("cores", Runtime.getRuntime().availableProcessors());
        device.put("system", "Android " + Build.VERSION.RELEASE + ", API " + Build.VERSION.SDK_INT);
        device.put("model", Build.MANUFACTURER + " " + Build.MODEL);
        device.put("abi", Build.SUPPORTED_ABIS[0]);
        device.put(BEFORE, Thermal.status(context));
        return device;
    }

    /**
     * Merge a pair MERGES times, then draw STEPS steps without and with it.
     *
     * @return JSON in the schema of benchmarks/schema.json
     */
    static String run(
            Context context, Pipeline pipeline, Lora content, Lora style, Request asked,
            Map<String, Object> device, Progress progress) throws LorararException {
        Request request = new Request(
                asked.prompt, asked.negative, STEPS, asked.guidance, asked.seed, asked.sampler);
        float all = MERGES + 2 * STEPS;
        pipeline.noLora();
        long[] plain = steps(pipeline, request, progress, 0, all);
        List<MergeTime> merges = new ArrayList<>();
        for (int i = 0; i < MERGES; i++) {
            pipeline.usePair(content, style, 1, 1);
            merges.add(pipeline.mergeTime());
            progress.done((STEPS + i + 1) / all);
        }
        long[] paired = steps(pipeline, request, progress, STEPS + MERGES, all);
        device.put(AFTER, Thermal.status(context));
        Map<String, Object> settings = new LinkedHashMap<>();
        settings.put("model", pipeline.manifest.base);
        settings.put("quantize", pipeline.manifest.quantize);
        settings.put("side", pipeline.manifest.side);
        settings.put("merges", MERGES);
        settings.put("steps", STEPS);
        List<Map<String, Object>> rows = Results.mergeRows(merges);
        rows.add(Results.stepRow("step", -1, plain, paired, merges));
        return Results.json("android", device, settings, rows, new ArrayList<String>());
    }

    /** What a person reads of it. */
    static String summary(Context context, String json) {
        Map<String, Object> all = Json.object(json);
        List<?> rows = (List<?>) all.get("rows");
        Map<?, ?> merge = (Map<?, ?>) rows.get(0);
        Map<?, ?> step = (Map<?, ?>) rows.get(rows.size() - 1);
        Map<?, ?> machine = (Map<?, ?>) all.get("machine");
        return context.getString(
                R.string.measured, number(merge, "median_ms"), number(step, "step_ms"),
                number(step, "step_with_lora_ms"), machine.get(BEFORE), machine.get(AFTER));
    }

    private static double number(Map<?, ?> row, String name) {
        return ((Number) row.get(name)).doubleValue();
    }

    /** In nanoseconds each. */
    private static long[] steps(
            Pipeline pipeline, Request request, Progress progress, int before, float all)
            throws LorararException {
        Drawing drawing = pipeline.start(request);
        long[] taken = new long[STEPS];
        for (int i = 0; i < STEPS; i++) {
            long started = System.nanoTime();
            drawing.step();
            taken[i] = System.nanoTime() - started;
            progress.done((before + i + 1) / all);
        }
        return taken;
    }
}
