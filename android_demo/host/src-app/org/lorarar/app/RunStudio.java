package org.lorarar.app;

import android.content.Context;
import android.net.Uri;
import java.io.File;
import java.util.LinkedHashMap;
import java.util.Map;
import org.lorarar.core.Choices;
import org.lorarar.core.Json;
import org.lorarar.core.LoraShelf;

/**
 * Does in the app's own Studio what a person does on its screens, and prints what these would show.
 *
 * <p>FOLDER ASSETS draw STEPS SEED [STOP], which ends the process as Android does once STOP steps
 * are done; resume; import FILE NAME; use MODEL; benchmark.
 */
public final class RunStudio {
    private RunStudio() {}

    public static void main(String[] given) throws Exception {
        Context context = new Context(new File(given[0]), new File(given[1]), R.string.class);
        Studio studio = new Studio(context);
        while (!studio.ready() && studio.problem() == null) {
            Thread.sleep(2);
        }
        String task = given[2];
        if (task.equals("draw")) {
            int stop = given.length > 5 ? Integer.parseInt(given[5]) : Integer.MAX_VALUE;
            draw(studio, Integer.parseInt(given[3]), Long.parseLong(given[4]), stop);
        } else if (task.equals("resume")) {
            finish(studio, Integer.MAX_VALUE);
        } else if (task.equals("import")) {
            studio.importLora(new Uri(given[3]), given[4], LoraShelf.STYLE);
        } else if (task.equals("use")) {
            studio.useModel(new File(given[3]));
        } else if (task.equals("benchmark")) {
            studio.benchmark();
            while (studio.measuring()) {
                Thread.sleep(2);
            }
        }
        settle(studio);
        System.out.println(Json.write(shown(studio)));
        System.exit(0);
    }

    private static void draw(Studio studio, int steps, long seed, int stop) throws Exception {
        Choices chosen = studio.choices();
        chosen.steps = steps;
        chosen.seed = seed;
        studio.choose(chosen);
        studio.draw();
        finish(studio, stop);
    }

    private static void finish(Studio studio, int stop) throws Exception {
        while (studio.drawing()) {
            if (studio.done() >= stop) {
                Runtime.getRuntime().halt(0);
            }
            Thread.sleep(1);
        }
    }

    /** Wait until all that was asked for before is done, as one thread does it in order. */
    private static void settle(Studio studio) throws Exception {
        studio.refreshModels();
        while (studio.models().isEmpty()) {
            Thread.sleep(2);
        }
    }

    private static Map<String, Object> shown(Studio studio) {
        Map<String, Object> shown = new LinkedHashMap<>();
        shown.put("problem", studio.problem());
        shown.put("model", studio.modelInUse().getPath());
        shown.put("merged", studio.merged() != null);
        shown.put("pictures", studio.pictures().size());
        File last = studio.lastPicture();
        shown.put("picture", last == null ? null : last.getPath());
        shown.put("seed", studio.choices().seed);
        shown.put("loras", studio.loras().size());
        shown.put("benchmark", studio.benchmarkJson());
        return shown;
    }
}
