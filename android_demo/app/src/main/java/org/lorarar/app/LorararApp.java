package org.lorarar.app;

import android.app.Application;
import android.content.Context;

/** The process, which outlives its screens and holds what they show. */
public final class LorararApp extends Application {
    private Studio studio;

    static Studio studio(Context context) {
        LorararApp app = (LorararApp) context.getApplicationContext();
        if (app.studio == null) { // a process that only shares a file needs none
            app.studio = new Studio(app);
        }
        return app.studio;
    }

    @Override
    public void onTrimMemory(int level) {
        super.onTrimMemory(level);
        if (studio != null) {
            studio.trim();
        }
    }
}
