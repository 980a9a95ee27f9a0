package org.lorarar.app;

import android.content.Context;
import android.graphics.Bitmap;
import java.io.File;
import java.util.Collections;
import java.util.List;
import org.lorarar.core.Choices;
import org.lorarar.core.Job;
import org.lorarar.core.LorararException;

/** The picture that is being drawn, a step at a time on the worker's thread, and the others. */
final class Easel {
    final History history;
    private final Context context;
    private final Studio studio;
    private final Worker worker;
    private final File jobFile;
    private volatile List<File> pictures = Collections.emptyList();
    private volatile boolean isDrawing; // from the request on
    private volatile boolean isCancelled;
    private volatile DrawingTask task; // null until the drawing begins

    Easel(Context context, Studio studio, Worker worker) {
        this.context = context;
        this.studio = studio;
        this.worker = worker;
        history = new History(new File(context.getFilesDir(), "pictures"));
        jobFile = new File(context.getFilesDir(), "drawing.job");
    }

    /** Draw after what was asked for before. */
    void draw(final Choices asked) {
        isDrawing = true;
        isCancelled = false;
        worker.post(0, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                begin(asked, null);
            }
        });
        worker.changed();
    }

    void cancel() {
        isCancelled = true;
    }

    boolean isDrawing() {
        return isDrawing;
    }

    int done() {
        DrawingTask now = task;
        return now == null ? 0 : now.done();
    }

    int steps() {
        DrawingTask now = task;
        return now == null ? 0 : now.steps();
    }

    /** The picture being drawn, as it was when last shown, or null. */
    Bitmap preview() {
        DrawingTask now = task;
        return now == null ? null : now.preview();
    }

    /** The finished ones, newest first. */
    List<File> pictures() {
        return pictures;
    }

    /** Look again which finished ones there are. */
    void look() {
        pictures = history.pictures();
    }

    /** Take up the drawing that an ended process has left; on the worker's thread. */
    void resume(OpenModel model) throws LorararException {
        if (isDrawing || model == null || !jobFile.exists()) {
            return;
        }
        Job job;
        try {
            job = Job.read(jobFile);
        } catch (LorararException error) {
            jobFile.delete();
            throw error;
        }
        boolean isOther = !job.model.equals(model.identity());
        if (isOther || job.attempts >= Job.MOST_ATTEMPTS) {
            jobFile.delete();
            worker.say(context.getString(isOther ? R.string.other_model : R.string.gave_up));
            return;
        }
        new Job(job.choices, job.model, job.attempts + 1, job.state).write(jobFile);
        isDrawing = true;
        isCancelled = false;
        begin(job.choices, job);
    }

    private void begin(Choices asked, Job job) throws LorararException {
        boolean isBegun = false;
        try {
            OpenModel model = isCancelled ? null : studio.modelWith(asked);
            if (model != null) {
                task = job == null ? DrawingTask.start(model, asked)
                        : DrawingTask.resume(model, job);
                if (job == null) {
                    keep();
                    sayCut(model, asked);
                }
                isBegun = true;
            }
        } finally {
            goOn(isBegun, false);
        }
    }

    private void sayCut(OpenModel model, Choices asked) {
        int cut = model.pipeline.cut(asked.prompt);
        if (cut > 0) {
            studio.say(context.getString(R.string.cut, cut));
        }
    }

    private void step() throws LorararException {
        boolean isMore = false;
        boolean isToKeep = false; // a finished picture that could not be kept
        try {
            if (!isCancelled) {
                isMore = task.step();
                isToKeep = !isMore;
            }
            if (isMore) {
                keep();
                task.show();
            }
            if (isToKeep) {
                history.add(task.picture(), task.choices);
                isToKeep = false;
            }
        } finally {
            goOn(isMore, isToKeep);
        }
    }

    /** A drawing that cannot be kept, as storage is full, goes on nevertheless. */
    private void keep() {
        worker.attempt(new Worker.Work() {
            @Override
            public void run() throws LorararException {
                task.job().write(jobFile);
            }
        });
    }

    private void goOn(boolean isMore, boolean isToKeep) {
        if (isMore) {
            worker.post(0, new Worker.Work() {
                @Override
                public void run() throws LorararException {
                    step();
                }
            });
            return;
        }
        if (!isToKeep) {
            jobFile.delete();
        }
        task = null;
        look();
        studio.drawn();
        isDrawing = false;
    }
}
