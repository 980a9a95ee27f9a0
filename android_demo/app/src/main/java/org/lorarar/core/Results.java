package org.lorarar.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What a benchmark found, as JSON in the schema of benchmarks/schema.json. */
public final class Results {
    private static final String[] MERGE_COLUMNS = { // of benchmarks/merge_latency.py
        "name", "median_ms", "min_ms", "max_ms", "times_dense", "gflop", "gigabytes",
        "share_of_matmul", "share_of_memory", "peak_megabytes",
    };
    private static final String[] STEP_COLUMNS = { // of benchmarks/pipeline_latency.py
        "name", "load_ms", "first_step_ms", "step_ms", "step_with_lora_ms", "swap_ms", "pair_ms",
        "peak_mb",
    };
    private static final String[] REQUIRED = {"cpu", "cores", "system", "python"};

    private Results() {
    }

    /**
     * One benchmark.
     *
     * @param benchmark "merge_latency" or "pipeline_latency"
     * @param machine strings and numbers; "python" is added if it is not there
     * @param settings strings, numbers and nulls
     * @param rows as the functions below make them
     * @throws IllegalArgumentException if the machine lacks what the schema requires
     */
    public static String json(
            String benchmark, Map<String, Object> machine, Map<String, Object> settings,
            List<Map<String, Object>> rows, List<String> notes) {
        Map<String, Object> about = new LinkedHashMap<>(machine);
        if (!about.containsKey("python")) {
            about.put("python", "none: the Android app");
        }
        for (String name : REQUIRED) {
            if (about.get(name) == null) {
                throw new IllegalArgumentException("the machine's " + name + " is missing");
            }
        }
        if (rows.isEmpty()) {
            throw new IllegalArgumentException("no rows");
        }
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("schema", "lorarar.benchmark.1");
        all.put("benchmark", benchmark);
        all.put("machine", about);
        all.put("settings", settings);
        all.put("rows", rows);
        all.put("notes", notes);
        return Json.write(all);
    }

    /** Three rows of merges: whole, their coefficients, their factors. */
    public static List<Map<String, Object>> mergeRows(List<MergeTime> times) {
        long[] whole = new long[times.size()];
        long[] coefficients = new long[times.size()];
        long[] factors = new long[times.size()];
        for (int i = 0; i < times.size(); i++) {
            whole[i] = times.get(i).total();
            coefficients[i] = times.get(i).coefficients;
            factors[i] = times.get(i).factors;
        }
        List<Map<String, Object>> rows = new ArrayList<>();
        rows.add(mergeRow("factored, factors merged", whole));
        rows.add(mergeRow("factored, coefficients", coefficients));
        rows.add(mergeRow("factors from coefficients", factors));
        return rows;
    }

    private static Map<String, Object> mergeRow(String name, long[] nanoseconds) {
        long[] sorted = nanoseconds.clone();
        Arrays.sort(sorted);
        Map<String, Object> row = empty(MERGE_COLUMNS, name);
        row.put("median_ms", median(nanoseconds));
        row.put("min_ms", sorted[0] / 1e6);
        row.put("max_ms", sorted[sorted.length - 1] / 1e6);
        return row;
    }

    /**
     * A row of a pipeline; each of steps, at least two, in nanoseconds.
     *
     * @param loadNanoseconds of opening the pipeline, or -1 where it was not timed
     * @param merges of the pair that the steps with LoRAs drew with
     */
    public static Map<String, Object> stepRow(
            String name, long loadNanoseconds, long[] steps, long[] stepsWithPair,
            List<MergeTime> merges) {
        Map<String, Object> row = empty(STEP_COLUMNS, name);
        if (loadNanoseconds >= 0) {
            row.put("load_ms", loadNanoseconds / 1e6);
        }
        row.put("first_step_ms", steps[0] / 1e6);
        row.put("step_ms", median(Arrays.copyOfRange(steps, 1, steps.length)));
        row.put("step_with_lora_ms",
            median(Arrays.copyOfRange(stepsWithPair, 1, stepsWithPair.length)));
        if (!merges.isEmpty()) {
            row.put("pair_ms", mergeRows(merges).get(0).get("median_ms"));
        }
        return row;
    }

    private static Map<String, Object> empty(String[] columns, String name) {
        Map<String, Object> row = new LinkedHashMap<>();
        for (String column : columns) {
            row.put(column, null);
        }
        row.put("name", name);
        return row;
    }

    /** In milliseconds. */
    private static double median(long[] nanoseconds) {
        long[] sorted = nanoseconds.clone();
        Arrays.sort(sorted);
        int middle = sorted.length / 2;
        long upper = sorted[middle];
        long lower = sorted.length % 2 == 1 ? upper : sorted[middle - 1];
        return (lower + upper) / 2e6;
    }
}
