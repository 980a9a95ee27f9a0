package org.lorarar.core;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;

import java.io.File;
import java.io.IOException;
import java.util.Arrays;
import java.util.Map;
import org.junit.Test;

public class SamplingTest {
    private static final int SIZE = 64;
    private static final Trajectory.Model STAND_IN = new Trajectory.Model() {
        @Override
        public float[] run(float[] scaled, double time) {
            float[] output = new float[scaled.length];
            for (int i = 0; i < output.length; i++) {
                output[i] = scaled[i] / (Math.abs(scaled[i]) + 1) + (float) time * 1e-4f;
            }
            return output;
        }
    };

    private static Trajectory begin(Fields row, long seed) throws LorararException {
        NoiseSchedule schedule = schedule(row.object("config").map);
        return new Trajectory(Sampler.of(row.text("sampler")), schedule,
            (int) row.whole("steps"), seed, SIZE);
    }

    private static NoiseSchedule schedule(Map<String, Object> config) throws LorararException {
        File source = new File("config");
        try {
            return NoiseSchedule.of(config, source);
        } catch (IllegalArgumentException error) {
            throw NoiseSchedule.unknown(source, error);
        }
    }

    @Test
    public void everySamplerGoesTheWayOfPython() throws IOException {
        Fields all = Fields.object(DrawingVectors.json("samplings.json"), "samplings");
        for (Fields row : DrawingVectors.rows(all.get("good"))) {
            float[] wanted = DrawingVectors.floats(
                new File(DrawingVectors.FOLDER, row.text("file")));
            Trajectory way = begin(row, row.whole("seed"));
            for (int step = 0; step < way.steps; step++) {
                way.step(STAND_IN);
                DrawingVectors.assertClose(row.map + " step " + step,
                    Arrays.copyOfRange(wanted, step * SIZE, (step + 1) * SIZE), way.x, 1e-5);
            }
        }
    }

    @Test
    public void whatIsResumedEndsAsWhatWentOn() throws IOException {
        Fields all = Fields.object(DrawingVectors.json("samplings.json"), "samplings");
        for (Fields row : DrawingVectors.rows(all.get("good"))) {
            long seed = row.whole("seed");
            Trajectory way = begin(row, seed);
            for (int done = 0; done < way.steps; done++) {
                Drawing before = new Drawing(begin(row, seed), STAND_IN, "key");
                for (int i = 0; i < done; i++) {
                    before.step();
                }
                Drawing after = new Drawing(begin(row, seed), STAND_IN, "key");
                after.restore(before.save());
                while (after.step()) {
                    before.step();
                }
                assertEquals(way.steps, after.done());
                assertArrayEquals(before.latents(), after.latents(), 0);
            }
        }
    }

    @Test
    public void whatCannotBeIsRefusedInTheWordsOfPython() throws IOException {
        Fields all = Fields.object(DrawingVectors.json("samplings.json"), "samplings");
        for (Fields row : DrawingVectors.rows(all.get("refused"))) {
            Object said = null;
            try {
                begin(row, 0);
            } catch (LorararException error) {
                said = error.getMessage();
            }
            assertEquals(row.map.toString(), row.get("message"), said);
        }
    }

    @Test
    public void theModelsOwnSchedulerChoosesTheSampler() throws IOException {
        Fields all = Fields.object(DrawingVectors.json("samplings.json"), "samplings");
        for (Fields row : DrawingVectors.rows(all.get("owners"))) {
            NoiseSchedule schedule = schedule(row.object("config").map);
            String wanted = PythonText.of(row.get("sampler"));
            assertEquals(Sampler.LCM, schedule.settled(Sampler.LCM));
            try {
                assertEquals(row.text("class"), wanted, schedule.settled(null).title);
            } catch (LorararException error) {
                assertEquals(row.text("class"), "None", wanted);
            }
        }
    }
}
