package org.lorarar.app;

import android.graphics.Bitmap;
import java.io.File;
import org.lorarar.core.Choices;
import org.lorarar.core.Drawing;
import org.lorarar.core.Job;
import org.lorarar.core.LorararException;
import org.lorarar.core.Picture;
import org.lorarar.core.Pipeline;
import org.lorarar.core.PreviewBudget;
import org.lorarar.core.Request;
import org.lorarar.core.Sampler;

/** A picture being drawn, kept in a file after every step. */
final class DrawingTask {
    private static final float GUIDANCE = 5; // as lorarar's own drawing

    final Choices choices;
    private final OpenModel model;
    private final File file;
    private final Drawing drawing;
    private final PreviewBudget budget = new PreviewBudget();
    private Bitmap preview;

    private DrawingTask(OpenModel model, Choices choices, File file, Drawing drawing) {
        this.model = model;
        this.choices = choices;
        this.file = file;
        this.drawing = drawing;
    }

    static Request request(Choices choices) {
        return new Request(
                choices.prompt, null, choices.steps, GUIDANCE, choices.seed, Sampler.EULER);
    }

    /** Begin with the LoRAs that are merged now. */
    static DrawingTask start(OpenModel model, Choices choices, File file)
            throws LorararException {
        DrawingTask task = new DrawingTask(
                model, choices, file, model.pipeline.start(request(choices)));
        task.keep();
        return task;
    }

    /** Go on with what an ended process has kept; the job's LoRAs must be merged. */
    static DrawingTask resume(OpenModel model, Job job, File file) throws LorararException {
        Pipeline pipeline = model.pipeline;
        Request request = request(job.choices);
        Drawing drawing = job.state.length == 0
                ? pipeline.start(request) : Drawing.resume(pipeline, request, job.state);
        return new DrawingTask(model, job.choices, file, drawing);
    }

    /** Take a step and show it if there is time; false when the picture is finished. */
    boolean step() throws LorararException {
        long started = System.nanoTime();
        if (!drawing.step()) {
            return false;
        }
        budget.drew((System.nanoTime() - started) / 1e6);
        keep();
        if (drawing.done() < drawing.steps() && budget.allows()) {
            started = System.nanoTime();
            picture();
            budget.showed((System.nanoTime() - started) / 1e6);
        }
        return true;
    }

    /** Decode the picture of now. */
    Bitmap picture() throws LorararException {
        Picture picture = model.pipeline.decode(drawing.latents());
        preview = Bitmap.createBitmap(
                picture.argb, picture.width, picture.height, Bitmap.Config.ARGB_8888);
        return preview;
    }

    /** The picture decoded last, or null. */
    Bitmap preview() {
        return preview;
    }

    int done() {
        return drawing.done();
    }

    int steps() {
        return drawing.steps();
    }

    private void keep() throws LorararException {
        byte[] state = drawing.done() == 0 ? new byte[0] : drawing.save();
        new Job(choices, model.identity(), 0, state).write(file);
    }
}
