package org.lorarar.app;

import android.graphics.Bitmap;
import org.lorarar.core.Choices;
import org.lorarar.core.Drawing;
import org.lorarar.core.Job;
import org.lorarar.core.LorararException;
import org.lorarar.core.Picture;
import org.lorarar.core.Pipeline;
import org.lorarar.core.PreviewBudget;
import org.lorarar.core.Request;

/** A picture that is being drawn; for the worker's thread, but for its numbers and preview. */
final class DrawingTask {
    private static final float GUIDANCE = 5; // as lorarar's own drawing

    final Choices choices;
    private final OpenModel model;
    private final Drawing drawing;
    private final PreviewBudget budget = new PreviewBudget();
    private Bitmap preview;

    private DrawingTask(OpenModel model, Choices choices, Drawing drawing) {
        this.model = model;
        this.choices = choices;
        this.drawing = drawing;
    }

    static Request request(Choices choices) {
        return new Request(
                choices.prompt, null, choices.steps, GUIDANCE, choices.seed, null);
    }

    /** Begin with the LoRAs that are merged now. */
    static DrawingTask start(OpenModel model, Choices choices) throws LorararException {
        return new DrawingTask(model, choices, model.pipeline.start(request(choices)));
    }

    /** Go on with what an ended process has kept; the job's LoRAs must be merged. */
    static DrawingTask resume(OpenModel model, Job job) throws LorararException {
        Pipeline pipeline = model.pipeline;
        Request request = request(job.choices);
        Drawing drawing = job.state.length == 0
                ? pipeline.start(request) : Drawing.resume(pipeline, request, job.state);
        return new DrawingTask(model, job.choices, drawing);
    }

    /** Take a step; false when the picture is finished. */
    boolean step() throws LorararException {
        long started = System.nanoTime();
        boolean isMore = drawing.step();
        budget.drew((System.nanoTime() - started) / 1e6);
        return isMore;
    }

    /** Decode what there is, if there is time. */
    void show() throws LorararException {
        if (drawing.done() < drawing.steps() && budget.allows()) {
            long started = System.nanoTime();
            picture();
            budget.showed((System.nanoTime() - started) / 1e6);
        }
    }

    /** All of it, to be taken up by another process. */
    Job job() {
        byte[] state = drawing.done() == 0 ? new byte[0] : drawing.save();
        return new Job(choices, model.identity(), 0, state);
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
}
