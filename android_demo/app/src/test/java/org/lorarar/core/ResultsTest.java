package org.lorarar.core;

import static org.junit.Assert.assertEquals;

import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.Test;

public class ResultsTest {
    private static Map<String, Object> phone() {
        Map<String, Object> machine = new LinkedHashMap<>();
        machine.put("cpu", "a phone's");
        machine.put("cores", 8);
        machine.put("system", "Android aarch64");
        return machine;
    }

    @Test
    public void mediansOfMergesAreInMilliseconds() {
        List<Map<String, Object>> rows = Results.mergeRows(Arrays.asList(
            new MergeTime(1_000_000, 2_000_000), new MergeTime(2_000_000, 4_000_000),
            new MergeTime(7_000_000, 3_000_000), new MergeTime(1_000_000, 1_000_000)));
        assertEquals(4.5, rows.get(0).get("median_ms"));
        assertEquals(2.0, rows.get(0).get("min_ms"));
        assertEquals(10.0, rows.get(0).get("max_ms"));
        assertEquals(1.5, rows.get(1).get("median_ms"));
    }

    @Test
    public void aReportIsReadBackAsItWasWritten() {
        long[] steps = {9_000_000, 5_000_000, 7_000_000, 6_000_000};
        List<Map<String, Object>> rows = Collections.singletonList(
            Results.stepRow("int8", -1, steps, steps, Collections.<MergeTime>emptyList()));
        String text = Results.json("pipeline_latency", phone(),
            Collections.<String, Object>singletonMap("steps", 4), rows,
            Collections.singletonList("a note"));
        Map<String, Object> report = Json.object(text);
        assertEquals("lorarar.benchmark.1", report.get("schema"));
        Fields row = DrawingVectors.rows(report.get("rows")).get(0);
        assertEquals(9.0, row.number("first_step_ms"), 0);
        assertEquals(6.0, row.number("step_ms"), 0);
        assertEquals(null, row.get("load_ms"));
    }

    @Test(expected = IllegalArgumentException.class)
    public void aMachineWithoutANameIsRefused() {
        Results.json("merge_latency", Collections.<String, Object>emptyMap(),
            Collections.<String, Object>emptyMap(),
            Results.mergeRows(Collections.singletonList(new MergeTime(1, 1))),
            Collections.<String>emptyList());
    }
}
